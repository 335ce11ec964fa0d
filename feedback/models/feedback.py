"""What people say of answers, and what curators made of it."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from embeddings.models import Collection
from inference.models import Message
from llmsite.core.ids import row_id

CLAIM_LASTS = timedelta(minutes=15)
"""After so long without a sign of the curator an entry is free again."""
COMMENT_LENGTH = 4_000
CORRECTION_LENGTH = 20_000
GOOD, BAD = RATINGS = (1, -1)


class Tag(models.TextChoices):
    """What is wrong with an answer, or right."""

    WRONG = "wrong", _("not true")
    INCOMPLETE = "incomplete", _("incomplete")
    OFF_TOPIC = "off_topic", _("not what was asked")
    SOURCES = "sources", _("the sources do not say so")
    STYLE = "style", _("tone or form")
    HARMFUL = "harmful", _("harmful")
    HELPFUL = "helpful", _("helpful")


class ReviewStatus(models.TextChoices):
    OPEN = "open", _("open")
    ACCEPTED = "accepted", _("accepted")
    REJECTED = "rejected", _("rejected")


class Scope(models.TextChoices):
    """For whom an accepted correction is the answer."""

    AUTHOR = "author", _("its author")
    COLLECTION = "collection", _("everybody who asks this collection")
    SITE = "site", _("everybody")


class FeedbackQuerySet(models.QuerySet["Feedback"]):
    def visible_to(self, user: User) -> Self:
        """Their own; curators see all."""
        return self if user.has_perm("accounts.curate") else self.filter(user=user)

    def claimable_by(self, user: User) -> Self:
        """Open entries that no other curator is at work on."""
        free = Q(claimed_by=None) | Q(claimed_by=user) | Q(claimed_at__lt=timezone.now() - CLAIM_LASTS)
        return self.filter(free, status=ReviewStatus.OPEN)

    def tagged(self, tag: str) -> Self:
        """Those with a tag, a word of `Tag`."""
        # SQLite has no look-up for what a list holds.
        rows = self.annotate(tag_list=Cast("tags", models.TextField()))
        return rows.filter(tag_list__contains=f'"{tag}"')

    def trainable(self) -> Self:
        """Those whose authors allowed training when they wrote it, and allow it now."""
        return self.filter(consented_at__isnull=False, user__training_consent_at__isnull=False)


class Feedback(models.Model):
    """One person's word on one answer: a second one takes its place."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    message = models.ForeignKey(
        Message, on_delete=models.CASCADE, related_name="feedback", verbose_name=_("answer")
    )
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="feedback", verbose_name=_("person")
    )
    rating = models.SmallIntegerField(_("rating"), choices=[(GOOD, _("good")), (BAD, _("bad"))])
    tags = models.JSONField(_("tags"), default=list, blank=True)
    comment = models.TextField(_("comment"), blank=True)
    correction = models.TextField(_("a better answer"), blank=True)
    consented_at = models.DateTimeField(_("training was allowed since"), null=True, editable=False)
    """The consent that was in force when it was written; null where none was."""
    created_at = models.DateTimeField(_("written"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), default=timezone.now, editable=False)

    status = models.CharField(
        _("review"), max_length=10, choices=ReviewStatus.choices, default=ReviewStatus.OPEN
    )
    claimed_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("claimed by")
    )
    claimed_at = models.DateTimeField(_("claimed"), null=True, blank=True)
    label = models.CharField(_("label"), max_length=50, blank=True)
    scope = models.CharField(_("scope"), max_length=10, choices=Scope.choices, blank=True)
    collection = models.ForeignKey(
        Collection,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("collection"),
    )
    reviewed_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("reviewed by"),
    )
    reviewed_at = models.DateTimeField(_("reviewed"), null=True, blank=True)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        verbose_name = _("feedback")
        verbose_name_plural = _("feedback")
        constraints = [
            models.UniqueConstraint(fields=["user", "message"], name="feedback_one_of_each"),
            models.CheckConstraint(condition=Q(rating__in=RATINGS), name="feedback_rating"),
            models.CheckConstraint(condition=Q(status__in=ReviewStatus.values), name="feedback_status"),
            models.CheckConstraint(condition=Q(scope__in=["", *Scope.values]), name="feedback_scope"),
            models.CheckConstraint(
                condition=~Q(status=ReviewStatus.ACCEPTED) | ~Q(scope=""), name="feedback_accepted_for_some"
            ),
            models.CheckConstraint(
                condition=Q(claimed_by=None) | Q(claimed_at__isnull=False), name="feedback_claimed_since"
            ),
        ]
        indexes = [
            # The queue: what is open, newest first; and the same of one rating.
            models.Index(fields=["status", "-created_at", "id"], name="feedback_queue"),
            models.Index(fields=["status", "rating", "-created_at", "id"], name="feedback_queue_rating"),
            models.Index(fields=["user", "-created_at", "id"], name="feedback_by_user"),
            models.Index(fields=["-created_at", "id"], name="feedback_by_time"),
        ]

    def __str__(self) -> str:
        return str(self.pk)
