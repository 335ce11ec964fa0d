"""Data sets and their versions: what they are and come from. Their rows are on the pages of the site."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, HistoryAdmin
from training.models import Dataset, DatasetRow, DatasetVersion


@admin.register(Dataset)
class DatasetAdmin(HistoryAdmin):
    list_display = ("name", "created_by", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("name",)
    fields = readonly_fields = ("id", "name", "created_by", "created_at")
    date_hierarchy = "created_at"
    ordering = ("-pk",)


@admin.register(DatasetVersion)
class DatasetVersionAdmin(FoundByIndex, HistoryAdmin):
    list_display = ("dataset", "number", "layout", "row_count", "created_by", "created_at", "withdrawn_at")
    list_select_related = ("dataset", "created_by")
    list_filter = ("layout", ("withdrawn_at", admin.EmptyFieldListFilter))
    search_fields = ("pk", "dataset__name", "sha256")
    search_help_text = _("The name of a data set, an id, or a SHA-256")
    fields = readonly_fields = (
        "id",
        "dataset",
        "number",
        "layout",
        "row_count",
        "sha256",
        "origin",
        "report",
        "created_by",
        "created_at",
        "withdrawn_at",
    )
    date_hierarchy = "created_at"
    ordering = ("-pk",)


@admin.register(DatasetRow)
class DatasetRowAdmin(FoundByIndex, HistoryAdmin):
    """Which rows come from whose feedback."""

    list_display = ("version_id", "number", "user", "feedback_id")
    list_select_related = ("user",)
    search_fields = ("version", "feedback", "user__username")
    search_help_text = _("A username, or the id of a version or of a feedback")
    fields = readonly_fields = ("id", "version", "number", "user", "feedback_id")
    ordering = ("-pk",)
    sortable_by = ()
