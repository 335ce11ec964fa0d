"""How good a run's model is, beside the one it comes from."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from feedback.models import Example
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
    error_data = models.JSONField(default=dict, blank=True)
    claim = models.UUIDField(null=True, editable=False)
    """Of the worker that makes it; `beat_at` stands still where that has died."""
    beat_at = models.DateTimeField(_("last sign of life"), null=True, editable=False)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0, editable=False)
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
            models.UniqueConstraint(
                fields=["run"], condition=Q(ended_at=None), name="training_evaluation_one_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class Preference(models.TextChoices):
    """Which answer the judge found better, asked in both orders; a tie where the two disagree."""

    BEFORE = "before", _("before")
    AFTER = "after", _("after")
    TIE = "tie", _("neither")


class EvaluationAnswer(models.Model):
    """What the model says to one evaluation case, before and after the run. It goes with its example."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="answers")
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="+")
    before = models.TextField(_("before"))
    after = models.TextField(_("after"))
    scores = models.JSONField(_("scores"), default=dict)
    """{"before", "after"}, each {"loss", "exact_match", "rouge_l"}."""
    preferred = models.CharField(_("the judge prefers"), max_length=6, choices=Preference.choices, blank=True)

    class Meta:
        verbose_name = _("answer to an evaluation case")
        verbose_name_plural = _("answers to evaluation cases")
        constraints = [
            models.UniqueConstraint(fields=["evaluation", "example"], name="training_answer_once"),
            models.CheckConstraint(
                condition=Q(preferred__in=["", *Preference.values]), name="training_answer_preferred"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.evaluation_id} {self.example_id}"
