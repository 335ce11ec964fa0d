"""How good a run's model is, beside the one it comes from."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from llmsite.core.ids import row_id
from training.models.runs import TrainingRun


class Evaluation(models.Model):
    """The model before and after a run on held-out rows and on the evaluation cases, and what the gate says.

    `results` is {"heldout": {"before", "after"}, "cases": {"before", "after"}, "judge": {...}}, each with its
    count, loss, exact match and ROUGE-L; `thresholds` are those of `training.gate`; `passed` is null while it
    is being made, and stays so where `error_code` says why it was not.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    run = models.ForeignKey(TrainingRun, on_delete=models.CASCADE, related_name="evaluations")
    judge = models.CharField(_("judge"), max_length=100, blank=True)
    results = models.JSONField(_("results"), default=dict)
    thresholds = models.JSONField(_("thresholds"), default=dict)
    passed = models.BooleanField(_("passed"), null=True)
    reasons = models.JSONField(_("reasons"), default=list, blank=True)
    error_code = models.CharField(_("error"), max_length=50, blank=True)
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("asked by")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    ended_at = models.DateTimeField(_("ended"), null=True, editable=False)

    class Meta:
        verbose_name = _("evaluation")
        verbose_name_plural = _("evaluations")
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                condition=Q(passed=None) | Q(ended_at__isnull=False), name="training_evaluation_ended"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)
