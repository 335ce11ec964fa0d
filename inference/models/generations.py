"""One row for every answer ever begun."""

import uuid
from datetime import datetime
from typing import Any, Self

from django.db import models, transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.ledger import settle
from accounts.models import ApiKey, User
from accounts.money import as_money
from accounts.usage import totals_of
from inference.models.conversations import Message
from llmsite.core.errors import NotFound, message_of
from llmsite.core.ids import row_id


class Status(models.TextChoices):
    QUEUED = "queued", _("waiting")
    STREAMING = "streaming", _("writing")
    FINISHED = "finished", _("finished")
    STOPPED = "stopped", _("stopped by the user")
    CUT = "cut", _("cut off by the provider")
    INTERRUPTED = "interrupted", _("interrupted by a restart")
    FAILED = "failed", _("failed")


class Grounding(models.TextChoices):
    """As `inference.grounding.grounds.Kind`."""

    PASSAGES = "passages", _("passages")
    EXTRACT = "extract", _("sentences of passages")
    NOTHING = "nothing", _("nothing was found")


RUNNING = (Status.QUEUED, Status.STREAMING)

rolled_up_changed = Signal()
"""Sent in a transaction, before `values` are given to the ended `row` that sums have already."""


class GenerationQuerySet(models.QuerySet["Generation"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(user=user)

    def running(self) -> Self:
        return self.filter(status__in=RUNNING)

    def to_tell(self) -> Self:
        """With all that their events are told from."""
        return self.select_related("message").prefetch_related("sources")

    @transaction.atomic
    def show_booked(self, call: uuid.UUID) -> None:
        """Bring the answer of a call up to what the ledger says of it by now, and the sums that have it."""
        # Locked, so that nobody counts it while it changes.
        row = self.select_for_update().filter(pk=call).first()
        if row is None or not (booked := totals_of(call)).calls:
            return
        values = {
            "input_tokens": booked.input_tokens,
            "output_tokens": booked.output_tokens,
            "usage_estimated": booked.has_estimates,
            "cost_micro": booked.cost_micro,
        }
        if row.rolled_up:
            rolled_up_changed.send(Generation, row=row, values=values)
        self.filter(pk=call).update(**values)


class Generation(models.Model):
    """One answer being made, or made: how it was asked for, how it ended and what it took.

    Its text is the content of `message`. `delta_lengths` says how the text came in pieces, in
    characters, so that the very events of the answer can be told again from the row alone.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
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
    requested_model = models.CharField(
        _("model that was asked"), max_length=100, blank=True, help_text=_("Where another one answered.")
    )
    adapter = models.CharField(
        _("adapter"), max_length=200, blank=True, help_text=_("What the model had learned, where it had.")
    )
    attempts = models.JSONField(_("models that failed before"), default=list, blank=True)
    cache = models.CharField(_("cache"), max_length=10, blank=True)
    cache_key = models.CharField(
        _("key in the cache"), max_length=100, blank=True, help_text=_("Where it is kept, if anywhere.")
    )
    parameters = models.JSONField(_("parameters"), default=dict)
    dropped_parameters = models.JSONField(_("parameters the model does not take"), default=list)
    context_trimmed = models.BooleanField(_("older turns left out"), default=False)
    labels = models.JSONField(
        _("labels"), default=dict, blank=True, help_text=_("What a program said about its question.")
    )

    collection = models.UUIDField(
        _("collection"), null=True, blank=True, help_text=_("Whose documents were asked, if not all.")
    )
    grounding = models.CharField(
        _("stands on"),
        max_length=10,
        choices=Grounding.choices,
        blank=True,
        help_text=_("How documents made the answer, where they were asked."),
    )
    confidence = models.FloatField(_("confidence"), null=True, blank=True)

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
    tool_calls = models.JSONField(_("tool calls"), default=list, blank=True)

    created_at = models.DateTimeField(_("asked"), default=timezone.now)
    heartbeat_at = models.DateTimeField(_("last sign of life"), default=timezone.now)
    stop_requested_at = models.DateTimeField(_("stop asked"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)
    rolled_up = models.BooleanField(default=False, editable=False)
    """Whether sums have it already that outlive the row; they count each answer once, after its end."""

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("answer")
        verbose_name_plural = _("answers")
        constraints = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="inference_generation_status"),
            models.CheckConstraint(
                condition=Q(cost_micro__gte=0), name="inference_generation_cost_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(grounding__in=["", *Grounding.values])
                & (Q(grounding="") ^ Q(confidence__isnull=False)),
                name="inference_generation_grounding",
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
            # From a line of the log to its answer.
            models.Index(fields=["request_id"], name="inference_gen_by_request"),
            # From an adapter to its answers; most have none.
            models.Index(fields=["adapter"], condition=~Q(adapter=""), name="inference_gen_by_adapter"),
            # Those that ended a moment ago, which no sum has yet.
            models.Index(
                fields=["id"],
                condition=Q(rolled_up=False, ended_at__isnull=False),
                name="inference_gen_to_count",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_alias} · {self.status}"

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING

    @property
    def failed_early(self) -> bool:
        """Whether it failed before its first piece, so that there is nothing to keep."""
        return bool(self.error_code) and not self.delta_lengths and not self.tool_calls

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
        is_free: bool = False,
        **values: Any,
    ) -> bool:
        """Store the end and the whole text, and book the call; False if it had ended before, or was deleted.

        The call is booked either way. Without `input_tokens` its prompt counts as when it was asked. For one
        that `is_free` nobody was asked: the tokens are told, and none are booked.
        """
        values |= {"input_tokens": input_tokens, "output_tokens": output_tokens}
        booked = (0, 0) if is_free else (input_tokens, output_tokens)
        entry = settle(
            self.pk, input_tokens=booked[0], output_tokens=booked[1] or 0, estimated=usage_estimated
        )
        if entry is not None and not is_free:
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
    generation = Generation.objects.visible_to(user).to_tell().filter(pk=pk).first()
    if generation is None:
        raise NotFound
    return generation
