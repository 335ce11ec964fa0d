"""Feedback and what was learned from it in the admin: to look things up. Decisions are made in the queue."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import HistoryAdmin
from feedback.models import Example, Feedback


@admin.register(Feedback)
class FeedbackAdmin(HistoryAdmin):
    """What people said of answers, and what became of it. Of the conversation only its id is shown."""

    list_display = (
        "created_at",
        "user",
        "rating",
        "has_correction",
        "status",
        "scope",
        "label",
        "reviewed_by",
    )
    list_select_related = ("user", "reviewed_by")
    list_filter = ("status", "rating", "scope", ("correction", admin.EmptyFieldListFilter))
    search_fields = ("=id", "=message__id", "user__username", "label", "comment", "correction")
    fields = (
        "id",
        "message_id",
        "user",
        "rating",
        "tags",
        "comment",
        "correction",
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
    show_full_result_count = False

    @admin.display(description=_("correction"), boolean=True)
    def has_correction(self, feedback: Feedback) -> bool:
        return bool(feedback.correction)


@admin.register(Example)
class ExampleAdmin(HistoryAdmin):
    """What models are trained on and examined with."""

    list_display = ("created_at", "kind", "author", "created_by", "feedback_id")
    list_select_related = ("feedback__user", "created_by")
    list_filter = ("kind",)
    search_fields = ("=id", "=feedback__id", "feedback__user__username", "chosen", "rejected")
    fields = ("id", "kind", "feedback", "prompt", "chosen", "rejected", "created_by", "created_at")
    show_full_result_count = False

    @admin.display(description=_("person"), ordering="feedback__user__username")
    def author(self, example: Example) -> str:
        return example.feedback.user.get_username()
