"""LoRA adapters of the local model, and which engine processes have loaded them."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmsite.core.ids import row_id

NAME_LENGTH = 64
ERROR_LENGTH = 300
LIVE_SECONDS = 12
"""An engine process that has given no sign of life for so long is taken for dead."""


class AdapterQuerySet(models.QuerySet["Adapter"]):
    def servable(self) -> Self:
        """Those that may be put before users."""
        return self.filter(withdrawn_at=None)


class Adapter(models.Model):
    """One trained adapter. It never changes: its name holds the hash of its content.

    Its files lie below ADAPTERS_ROOT in the folder of its name: safetensors, JSON, and a manifest with the
    SHA-256 of each file, which is compared before anything is loaded. `run` is the training run it comes
    from, of an app above this one. Once `withdrawn_at` is set nobody can promote it any more.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    name = models.CharField(_("name"), max_length=NAME_LENGTH, editable=False)
    sha256 = models.CharField(_("SHA-256 of its manifest"), max_length=64, editable=False)
    base_model = models.CharField(_("base model"), max_length=200, editable=False)
    base_sha256 = models.CharField(_("SHA-256 of the base model"), max_length=64, editable=False)
    run = models.UUIDField(_("training run"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(_("withdrawn"), null=True, blank=True)
    withdrawn_because = models.CharField(_("withdrawn because"), max_length=200, blank=True)

    objects = AdapterQuerySet.as_manager()

    class Meta:
        verbose_name = _("adapter")
        verbose_name_plural = _("adapters")
        ordering = ("-created_at",)
        constraints = [
            models.UniqueConstraint(fields=["name"], name="inference_adapter_name"),
            models.UniqueConstraint(
                fields=["run"], condition=Q(run__isnull=False), name="inference_adapter_one_of_a_run"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class EngineProcessQuerySet(models.QuerySet["EngineProcess"]):
    def live(self) -> Self:
        """Those that have shown lately that they live."""
        return self.filter(seen_at__gt=timezone.now() - timedelta(seconds=LIVE_SECONDS))


class EngineProcess(models.Model):
    """A process that serves the local model, and which weights it serves."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    base_model = models.CharField(_("base model"), max_length=200)
    seen_at = models.DateTimeField(_("last sign of life"), default=timezone.now)

    objects = EngineProcessQuerySet.as_manager()

    class Meta:
        verbose_name = _("engine process")
        verbose_name_plural = _("engine processes")

    def __str__(self) -> str:
        return f"{self.base_model}: {self.pk}"


class LoadState(models.TextChoices):
    LOADING = "loading", _("loading")
    READY = "ready", _("ready")
    FAILED = "failed", _("failed")


class AdapterLoad(models.Model):
    """What one engine process says of one adapter."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    process = models.ForeignKey(
        EngineProcess, on_delete=models.CASCADE, related_name="loads", verbose_name=_("process")
    )
    adapter = models.ForeignKey(Adapter, on_delete=models.CASCADE, related_name="loads")
    state = models.CharField(_("state"), max_length=10, choices=LoadState.choices)
    error = models.CharField(_("error"), max_length=ERROR_LENGTH, blank=True)
    told_at = models.DateTimeField(_("since"), default=timezone.now)

    class Meta:
        verbose_name = _("loaded adapter")
        verbose_name_plural = _("loaded adapters")
        constraints = [
            models.UniqueConstraint(fields=["process", "adapter"], name="inference_adapterload_once"),
            models.CheckConstraint(
                condition=Q(state__in=LoadState.values), name="inference_adapterload_state"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.adapter_id}: {self.state}"
