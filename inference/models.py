"""Models that answer, conversations as trees of messages, and one row for every answer ever begun."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.ledger import as_money, settle, totals_of
from accounts.models import ApiKey, User
from inference.providers import is_configured
from llmsite.core.errors import ModelNotFound, NotFound, message_of

TITLE_LENGTH = 80


class ChatModelConfigQuerySet(models.QuerySet["ChatModelConfig"]):
    def active(self) -> Self:
        return self.filter(is_active=True)

    def aliases(self) -> list[str]:
        """The names of the active models."""
        return list(self.active().order_by("alias").values_list("alias", flat=True))

    def named(self, alias: str | None, *, provider: str | None = None) -> "ChatModelConfig":
        """The active model of an alias; without one the default, or the provider's first.

        Raises ModelNotFound.
        """
        rows = self.active() if provider is None else self.active().filter(provider=provider)
        if alias is not None:
            row = rows.filter(alias=alias).first()
        elif provider is not None:
            row = rows.order_by("-is_default", "alias").first()
        else:
            row = rows.filter(is_default=True).first() or rows.filter(alias=settings.DEFAULT_MODEL).first()
        if row is None:
            raise ModelNotFound(model=alias or provider or settings.DEFAULT_MODEL)
        return row

    @transaction.atomic
    def served_locally(self, name: str, *, context_window: int) -> None:
        """Keep the local rows true: the engine serves the model `name` now, and no other.

        A new model gets a row. Where another local one was the default, it takes that place.
        """
        local = self.filter(provider="local")
        gone = local.exclude(provider_model=name)
        was_default = gone.filter(is_default=True).exists()
        gone.update(is_active=False, is_default=False)
        if not local.filter(provider_model=name).update(is_active=True, context_window=context_window):
            self.create(alias=name, provider="local", provider_model=name, context_window=context_window)
        if was_default or not self.filter(is_default=True).exists():
            row = local.filter(provider_model=name).order_by("pk")[:1]
            self.filter(pk__in=[found.pk for found in row]).update(is_default=True)


class ChatModelConfig(models.Model):
    """A model that can be asked: what users call it, who serves it, what it takes and costs."""

    alias = models.CharField(_("alias"), max_length=100, help_text=_("The name users and programs ask for."))
    label = models.CharField(_("label"), max_length=100, blank=True)
    provider = models.CharField(_("provider"), max_length=50)
    provider_model = models.CharField(_("provider's name of the model"), max_length=200)
    context_window = models.PositiveIntegerField(_("context window (tokens)"), default=8192)
    system_prompt = models.TextField(_("system prompt"), blank=True)
    max_tokens = models.PositiveIntegerField(_("longest answer by default (tokens)"), default=1024)
    refused_parameters = models.JSONField(
        _("parameters it does not take"),
        default=list,
        blank=True,
        help_text=_(
            'A list of names, such as ["temperature", "top_p"]; they are dropped and named in the answer.'
        ),
    )
    input_price = models.DecimalField(
        _("price of a million input tokens"), max_digits=12, decimal_places=6, default=Decimal(0)
    )
    output_price = models.DecimalField(
        _("price of a million output tokens"), max_digits=12, decimal_places=6, default=Decimal(0)
    )
    is_default = models.BooleanField(_("default"), default=False)
    is_active = models.BooleanField(_("active"), default=True)

    objects = ChatModelConfigQuerySet.as_manager()

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ("alias",)
        constraints = [
            models.UniqueConstraint(fields=["alias"], name="inference_model_alias"),
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="inference_model_one_default"
            ),
            models.CheckConstraint(
                condition=Q(input_price__gte=0, output_price__gte=0),
                name="inference_model_prices_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(context_window__gte=1, max_tokens__gte=1), name="inference_model_sizes_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.alias

    @property
    def is_available(self) -> bool:
        """Whether its provider has what it needs to be asked."""
        return is_configured(self.provider)


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

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="conversations", verbose_name=_("owner")
    )
    title = models.CharField(_("title"), max_length=TITLE_LENGTH, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
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

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
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


class Status(models.TextChoices):
    QUEUED = "queued", _("waiting")
    STREAMING = "streaming", _("writing")
    FINISHED = "finished", _("finished")
    STOPPED = "stopped", _("stopped by the user")
    CUT = "cut", _("cut off by the provider")
    INTERRUPTED = "interrupted", _("interrupted by a restart")
    FAILED = "failed", _("failed")


RUNNING = (Status.QUEUED, Status.STREAMING)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(user=user)

    def running(self) -> Self:
        return self.filter(status__in=RUNNING)

    def show_booked(self, call: uuid.UUID) -> None:
        """Bring the answer of a call up to what the ledger says of it by now."""
        if (booked := totals_of(call)).calls:
            self.filter(pk=call).update(
                input_tokens=booked.input_tokens,
                output_tokens=booked.output_tokens,
                usage_estimated=booked.has_estimates,
                cost_micro=booked.cost_micro,
            )


class Generation(models.Model):
    """One answer being made, or made: how it was asked for, how it ended and what it took.

    Its text is the content of `message`. `delta_lengths` says how the text came in pieces, in
    characters, so that the very events of the answer can be told again from the row alone.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="generations", verbose_name=_("user")
    )
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("API key")
    )
    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="generation")
    status = models.CharField(_("status"), max_length=12, choices=Status.choices, default=Status.QUEUED)
    door = models.CharField(_("door"), max_length=20)
    request_id = models.CharField(_("request id"), max_length=128, blank=True)

    model_alias = models.CharField(_("model"), max_length=100)
    provider = models.CharField(_("provider"), max_length=50)
    parameters = models.JSONField(_("parameters"), default=dict)
    dropped_parameters = models.JSONField(_("parameters the model does not take"), default=list)
    context_trimmed = models.BooleanField(_("older turns left out"), default=False)

    finish_reason = models.CharField(_("finish reason"), max_length=20, blank=True)
    error_code = models.CharField(_("error"), max_length=50, blank=True)
    error_data = models.JSONField(default=dict)
    input_tokens = models.PositiveIntegerField(_("input tokens"), null=True)
    output_tokens = models.PositiveIntegerField(_("output tokens"), null=True)
    usage_estimated = models.BooleanField(_("tokens are our own count"), default=False)
    cost_micro = models.BigIntegerField(_("cost in millionths"), default=0)
    latency_ms = models.PositiveIntegerField(_("latency (ms)"), null=True)
    time_to_first_token_ms = models.PositiveIntegerField(_("time to first token (ms)"), null=True)
    delta_lengths = models.JSONField(default=list)

    created_at = models.DateTimeField(_("asked"), default=timezone.now)
    heartbeat_at = models.DateTimeField(_("last sign of life"), default=timezone.now)
    stop_requested_at = models.DateTimeField(_("stop asked"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("answer")
        verbose_name_plural = _("answers")
        constraints = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="inference_generation_status"),
            models.CheckConstraint(
                condition=Q(cost_micro__gte=0), name="inference_generation_cost_not_negative"
            ),
        ]
        indexes = [
            # The sweep for answers whose process died looks at the few that run.
            models.Index(
                fields=["heartbeat_at"],
                condition=Q(status__in=["queued", "streaming"]),
                name="inference_gen_running",
            ),
            models.Index(fields=["user", "-created_at"], name="inference_gen_by_user"),
        ]

    def __str__(self) -> str:
        return f"{self.model_alias} · {self.status}"

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING

    @property
    def cost(self) -> str:
        """The cost as a decimal string in CURRENCY."""
        return as_money(self.cost_micro)

    @property
    def error_message(self) -> str:
        """What went wrong, in the reader's language; empty where nothing did."""
        return message_of(self.error_code, self.error_data) if self.error_code else ""

    @property
    def usage(self) -> dict[str, int | None]:
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}

    @transaction.atomic
    def end(
        self,
        text: str,
        *,
        at: datetime | None = None,
        input_tokens: int | None = None,
        output_tokens: int = 0,
        usage_estimated: bool = True,
        **values: Any,
    ) -> bool:
        """Store the end and the whole text, and book the call; False if it had ended before, or was deleted.

        The call is booked either way. Without `input_tokens` its prompt counts as when it was asked.
        """
        values |= {"input_tokens": input_tokens, "output_tokens": output_tokens}
        entry = settle(
            self.pk, input_tokens=input_tokens, output_tokens=output_tokens, estimated=usage_estimated
        )
        if entry is not None:
            values |= {"input_tokens": entry.input_tokens, "cost_micro": entry.cost_micro}
        values |= {"usage_estimated": usage_estimated, "ended_at": at or timezone.now()}
        if not self._move(RUNNING, **values):
            # Another process took this one for dead and booked what it knew; by now it is what we know.
            Generation.objects.show_booked(self.pk)
            return False
        Message.objects.filter(pk=self.message_id).update(content=text)
        return True

    def request_stop(self) -> bool:
        """Ask the process that writes this answer, whichever it is, to stop."""
        rows = Generation.objects.running().filter(pk=self.pk, stop_requested_at=None)
        return bool(rows.update(stop_requested_at=timezone.now()))

    def _move(self, from_states: tuple[Status, ...], **values: Any) -> bool:
        moved = Generation.objects.filter(pk=self.pk, status__in=from_states).update(**values)
        if moved:
            for name, value in values.items():
                setattr(self, name, value)
        return bool(moved)


def access_generation(user: User, pk: uuid.UUID | str) -> Generation:
    """The only way to an answer by its id. Raises NotFound for a missing and for a foreign one."""
    generation = Generation.objects.visible_to(user).select_related("message").filter(pk=pk).first()
    if generation is None:
        raise NotFound
    return generation
