"""Training runs and what they logged."""

from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from llmsite.core.ids import row_id
from training.models.datasets import DatasetVersion


class RunStatus(models.TextChoices):
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


STANDSTILL = timedelta(seconds=60)


class TrainingRun(models.Model):
    """One fine-tuning of the local model. `settings` are those of `training.settings.RunSettings`.

    Whoever changes QUEUED to RUNNING puts its `claim` there, and every later change names it, so that of two
    trainers only one has the run. A run whose `beat_at` stands still has lost its trainer.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    name = models.CharField(_("name"), max_length=100)
    version = models.ForeignKey(
        DatasetVersion, on_delete=models.PROTECT, related_name="runs", verbose_name=_("data set")
    )
    base_model = models.CharField(_("base model"), max_length=200)
    base_sha256 = models.CharField(_("SHA-256 of the base model"), max_length=64)
    settings = models.JSONField(_("settings"), default=dict)
    estimate = models.JSONField(_("estimate"), default=dict)
    """{"seconds", "memory_bytes", "disk_bytes"}, of before it began."""

    status = models.CharField(_("status"), max_length=10, choices=RunStatus.choices, default=RunStatus.QUEUED)
    step = models.PositiveIntegerField(_("step"), default=0)
    total_steps = models.PositiveIntegerField(_("steps"), default=0)
    claim = models.UUIDField(null=True, editable=False)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0, editable=False)
    beat_at = models.DateTimeField(_("last sign of life"), null=True, editable=False)
    cancel_requested_at = models.DateTimeField(_("cancel asked"), null=True, editable=False)
    request_id = models.CharField(_("request id"), max_length=128, blank=True, editable=False)
    """Of the request that started it, whose id the trainer's lines have too."""
    error_code = models.CharField(_("error"), max_length=50, blank=True)
    error_data = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("started by")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, editable=False)
    ended_at = models.DateTimeField(_("ended"), null=True, editable=False)

    class Meta:
        verbose_name = _("training run")
        verbose_name_plural = _("training runs")
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="training_run_status"),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.RUNNING) | Q(claim__isnull=False), name="training_run_claimed"
            ),
            models.CheckConstraint(
                condition=Q(status__in=ENDED) ^ Q(ended_at=None), name="training_run_ended"
            ),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.FAILED) | ~Q(error_code=""), name="training_run_failed_why"
            ),
        ]
        indexes = [models.Index(fields=["status", "created_at"], name="training_run_queue")]

    def __str__(self) -> str:
        return self.name


class Metric(models.Model):
    """What was logged after one step. Fields that were not measured at that step are null."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    run = models.ForeignKey(TrainingRun, on_delete=models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField(_("step"))
    loss = models.FloatField(_("loss"), null=True)
    eval_loss = models.FloatField(_("evaluation loss"), null=True)
    learning_rate = models.FloatField(_("learning rate"), null=True)
    gradient_norm = models.FloatField(_("gradient norm"), null=True)
    tokens_per_second = models.FloatField(_("tokens a second"), null=True)
    logged_at = models.DateTimeField(_("logged"), default=timezone.now)

    class Meta:
        verbose_name = _("metric")
        verbose_name_plural = _("metrics")
        ordering = ("run", "step")
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="training_metric_step")]

    def __str__(self) -> str:
        return f"{self.run_id} {self.step}"


def no_trainer() -> str | None:
    """Why trainings that wait are not begun, in a sentence; None where one is under way, or none waits."""
    since = timezone.now() - STANDSTILL
    if not TrainingRun.objects.filter(status=RunStatus.QUEUED, created_at__lt=since).exists():
        return None
    beating = TrainingRun.objects.filter(status=RunStatus.RUNNING, beat_at__gt=since)
    return None if beating.exists() else "Trainings wait, and no trainer takes them; its log says why."
