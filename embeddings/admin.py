"""The admin's view of documents: where they are and how far, never what they say or are called."""

from django.contrib import admin
from django_tasks_db.models import DBTaskResult

from accounts.admin.base import HistoryAdmin
from embeddings.models import DocumentVersion

# Its rows are the queue of the process `worker`; /health/ready says whether it stands still.
admin.site.unregister(DBTaskResult)


@admin.register(DocumentVersion)
class DocumentVersionAdmin(HistoryAdmin):
    list_display = (
        "id",
        "document",
        "number",
        "status",
        "progress",
        "error",
        "size",
        "language",
        "created_at",
    )
    list_filter = ("status", "error", "language")
    fields = readonly_fields = (
        "id",
        "document",
        "number",
        "status",
        "step",
        "progress",
        "error",
        "size",
        "media_type",
        "pages_total",
        "characters",
        "language",
        "created_at",
        "ready_at",
    )
    ordering = ("-created_at", "id")
    list_select_related = ("document",)
