"""Feedback and what was learned from it in the admin: to look things up. Decisions are made in the queue."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, PrivateAdmin
from feedback.models import Example, Feedback

CURATE = "accounts.curate"
"""Who has this reads the same texts in the queue, as those who wrote them were told."""


@admin.register(Feedback)
class FeedbackAdmin(FoundByIndex, PrivateAdmin):
    """What people said of answers, and what became of it. Of the conversation only its id is shown."""

    private = ("comment", "correction")
    owner = "user"
    may_open = CURATE
    list_display = ("created_at", "user", "rating", "status", "scope", "label", "reviewed_by")
    list_select_related = ("user", "reviewed_by")
    list_filter = (
        "status",
        "rating",
        "scope",
        ("correction", admin.EmptyFieldListFilter),
        ("created_at", admin.DateFieldListFilter),
    )
    search_fields = ("pk", "message", "user__username")
    search_help_text = _("A username, or the id of the feedback or of the answer")
    ordering = ("-created_at", "pk")
    sortable_by = ("created_at",)
    fields = (
        "id",
        "message_id",
        "user",
        "rating",
        "tags",
        "consented_at",
        "created_at",
        "updated_at",
        "status",
        "claimed_by",
        "claimed_at",
        "label",
        "scope",
        "collection_id",
        "reviewed_by",
        "reviewed_at",
    )
    readonly_fields = ("message_id", "collection_id")


@admin.register(Example)
class ExampleAdmin(FoundByIndex, PrivateAdmin):
    """What models are trained on and examined with."""

    private = ("prompt", "chosen", "rejected")
    deferred = ("feedback__comment", "feedback__correction")
    owner = "feedback.user"
    may_open = CURATE
    list_display = ("created_at", "kind", "author", "created_by", "feedback_id")
    list_select_related = ("feedback__user", "created_by")
    list_filter = ("kind", ("created_at", admin.DateFieldListFilter))
    search_fields = ("pk", "feedback", "feedback__user__username")
    search_help_text = _("A username, or the id of the example or of its feedback")
    fields = ("id", "kind", "feedback", "created_by", "created_at")
    # Ids begin with the time, so this is the order of time, by an index.
    ordering = ("-pk",)
    sortable_by = ()

    @admin.display(description=_("person"))
    def author(self, example: Example) -> str:
        return example.feedback.user.get_username()
