"""Verified answers in the admin: what is told, to whom, and why. Curators take them back in the queue."""

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, PrivateAdmin
from inference.models import VerifiedAnswer


@admin.register(VerifiedAnswer)
class VerifiedAnswerAdmin(FoundByIndex, PrivateAdmin):
    """One that everybody is told is shown; one for a person, or for readers of a collection, is hidden."""

    private = ("question", "answer")
    owner = "user"
    may_open = "accounts.curate"
    list_display = ("created_at", "id", "user", "collection_id", "created_by")
    list_select_related = ("user", "created_by")
    list_filter = (
        ("user", admin.EmptyFieldListFilter),
        ("collection", admin.EmptyFieldListFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    search_fields = ("pk", "source", "user__username")
    search_help_text = _("A username, or the id of the answer or of the feedback it comes from")
    fields = readonly_fields = ("id", "user", "collection_id", "source", "created_by", "created_at")
    ordering = ("-pk",)
    sortable_by = ()

    def hides(self, row: Any) -> bool:
        return row is None or row.user_id is not None or row.collection_id is not None
