"""Conversations as trees of messages."""

import uuid
from typing import Self

from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from llmsite.core.errors import NotFound
from llmsite.core.ids import row_id

TITLE_LENGTH = 80


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)

    def listed(self) -> Self:
        return self.filter(is_listed=True)

    def older_than(self, pk: uuid.UUID) -> Self:
        """Those behind conversation `pk`, one of them, in the order newest first; none where it is not."""
        moment = self.filter(pk=pk).values("updated_at")
        same_moment = Q(updated_at=models.Subquery(moment), pk__gt=pk)
        return self.filter(Q(updated_at__lt=models.Subquery(moment)) | same_moment)


class Conversation(models.Model):
    """A tree of messages; its owner sees it. One-off questions of programs are kept but not listed."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="conversations", verbose_name=_("owner")
    )
    title = models.CharField(_("title"), max_length=TITLE_LENGTH, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
    preface = models.JSONField(
        _("turns sent along"),
        default=list,
        blank=True,
        help_text=_("What a program sent before its question: the system prompt and older turns."),
    )
    is_listed = models.BooleanField(_("listed"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("last message"), default=timezone.now)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        permissions = [("read_others_conversations", _("Can read what others wrote, with a reason"))]
        indexes = [
            # The list beside the chat: an owner's conversations, newest first.
            models.Index(
                fields=["owner", "-updated_at", "id"],
                condition=Q(is_listed=True),
                name="inference_conv_list",
            ),
        ]

    def __str__(self) -> str:
        # No title: the admin and its log show this to people who may not read the conversation.
        return str(self.pk)

    def get_absolute_url(self) -> str:
        return reverse("conversation", args=[self.pk])


def access_conversation(user: User, pk: uuid.UUID | str) -> Conversation:
    """The only way to a conversation by its id. Raises NotFound for a missing and for a foreign one."""
    conversation = Conversation.objects.visible_to(user).filter(pk=pk).first()
    if conversation is None:
        raise NotFound
    return conversation


class Role(models.TextChoices):
    USER = "user", _("user")
    ASSISTANT = "assistant", _("assistant")


class Message(models.Model):
    """One turn. Its parent is the turn before, so another answer or an edited question is a branch."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    parent = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, blank=True, related_name="children"
    )
    role = models.CharField(max_length=10, choices=Role.choices)
    content = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="inference_message_role"),
        ]
        indexes = [
            # A conversation's messages in the order they were written.
            models.Index(fields=["conversation", "created_at", "id"], name="inference_message_order"),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.pk}"
