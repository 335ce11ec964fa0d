"""Sums of answers, which are exact and outlive the rows that they were made of (dashboard/roller.py).

Times are whole seconds since 1970 (UTC): a database groups numbers faster than dates.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

MINUTE, HOUR, DAY = STEPS = (60, 3600, 86_400)
"""Seconds that one row stands for. Minutes are kept for days (`roller.MINUTES_KEPT`), the others for ever."""

LATENCY, FIRST_TOKEN = MEASURES = ("latency", "first_token")


class AnswerSum(models.Model):
    """How many answers of one kind were asked for in a minute, an hour or a day, and what they took."""

    KEY = ("step", "start", "model", "provider", "status", "error_code", "cache")
    SUMS = ("answers", "input_tokens", "output_tokens", "cost_micro", "saved_micro", "unanswered")

    step = models.PositiveIntegerField()
    start = models.BigIntegerField()
    model = models.CharField(_("model"), max_length=100)
    provider = models.CharField(_("provider"), max_length=50)
    status = models.CharField(_("status"), max_length=12)
    error_code = models.CharField(_("error"), max_length=50)
    cache = models.CharField(_("cache"), max_length=10)
    answers = models.BigIntegerField(_("answers"), default=0)
    input_tokens = models.BigIntegerField(_("input tokens"), default=0)
    output_tokens = models.BigIntegerField(_("output tokens"), default=0)
    cost_micro = models.BigIntegerField(_("cost in millionths"), default=0)
    saved_micro = models.BigIntegerField(_("saved by the cache, in millionths"), default=0)
    unanswered = models.BigIntegerField(_("questions without an answer"), default=0)

    class Meta:
        verbose_name = _("sum of answers")
        verbose_name_plural = _("sums of answers")
        constraints = [
            models.UniqueConstraint(
                fields=["step", "start", "model", "provider", "status", "error_code", "cache"],
                name="dashboard_answers_once",
            ),
            models.CheckConstraint(condition=models.Q(step__in=STEPS), name="dashboard_answers_step"),
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.start} {self.model} {self.status}: {self.answers}"


class LatencySum(models.Model):
    """How answers of one time lie over the bins of `dashboard.histogram`: {"bin": count, …}."""

    KEY = ("step", "start", "measure", "cached")

    step = models.PositiveIntegerField()
    start = models.BigIntegerField()
    measure = models.CharField(_("measure"), max_length=12)
    cached = models.BooleanField(_("from the cache"))
    bins = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("histogram of latencies")
        verbose_name_plural = _("histograms of latencies")
        constraints = [
            models.UniqueConstraint(
                fields=["step", "start", "measure", "cached"], name="dashboard_latency_once"
            ),
            models.CheckConstraint(condition=models.Q(step__in=STEPS), name="dashboard_latency_step"),
            models.CheckConstraint(
                condition=models.Q(measure__in=MEASURES), name="dashboard_latency_measure"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.start} {self.measure}"


class AccountSum(models.Model):
    """What one person asked for on one day, by their pseudonym and the public id of the key, if any.

    Those of people who are gone are one: `NOBODY`. Those of a key that is gone are without one.
    """

    KEY = ("start", "account", "api_key")
    SUMS = ("answers", "input_tokens", "output_tokens", "cost_micro", "saved_micro")

    start = models.BigIntegerField()
    account = models.UUIDField(_("account"))
    api_key = models.CharField(_("API key"), max_length=8, blank=True)
    answers = models.BigIntegerField(_("answers"), default=0)
    input_tokens = models.BigIntegerField(_("input tokens"), default=0)
    output_tokens = models.BigIntegerField(_("output tokens"), default=0)
    cost_micro = models.BigIntegerField(_("cost in millionths"), default=0)
    saved_micro = models.BigIntegerField(_("saved by the cache, in millionths"), default=0)

    class Meta:
        verbose_name = _("sum of a person")
        verbose_name_plural = _("sums of people")
        constraints = [
            models.UniqueConstraint(fields=["start", "account", "api_key"], name="dashboard_account_once")
        ]
        indexes = [models.Index(fields=["account"], name="dashboard_by_account")]

    def __str__(self) -> str:
        return f"{self.start} {self.account}: {self.answers}"


class Progress(models.Model):
    """One row: how often sums have changed. Whoever changes them holds it; readers see that somebody did."""

    number = models.PositiveBigIntegerField(default=0)
    counted_at = models.DateTimeField(null=True)
    """When a worker last counted, or saw that there was nothing to count."""

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="dashboard_one_progress")]

    def __str__(self) -> str:
        return str(self.number)
