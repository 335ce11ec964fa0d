"""Verified answers in the admin: what is told, to whom, and why. Curators take them back in the queue."""

from django.contrib import admin
from django.template.defaultfilters import truncatechars
from django.utils.translation import gettext_lazy as _

from accounts.admin import HistoryAdmin
from inference.models import VerifiedAnswer


@admin.register(VerifiedAnswer)
class VerifiedAnswerAdmin(HistoryAdmin):
    list_display = ("created_at", "beginning", "user", "collection_id", "created_by")
    list_select_related = ("user", "created_by")
    list_filter = (
        ("user", admin.EmptyFieldListFilter),
        ("collection", admin.EmptyFieldListFilter),
    )
    search_fields = ("=id", "=source", "user__username", "question", "answer")
    fields = readonly_fields = (
        "id",
        "question",
        "answer",
        "user",
        "collection_id",
        "source",
        "created_by",
        "created_at",
    )
    show_full_result_count = False

    @admin.display(description=_("question"))
    def beginning(self, row: VerifiedAnswer) -> str:
        return truncatechars(row.question, 80)
