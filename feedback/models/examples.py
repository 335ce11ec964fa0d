"""What accepted feedback teaches: rows to train on, and cases to examine models with."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from feedback.models.feedback import Feedback
from llmsite.core.ids import row_id


class ExampleKind(models.TextChoices):
    SFT = "sft", _("training row")
    PREFERENCE = "preference", _("preference pair")
    EVALUATION = "evaluation", _("evaluation case")


class ExampleQuerySet(models.QuerySet["Example"]):
    def trainable(self) -> "ExampleQuerySet":
        """Those whose authors allowed training when they wrote it, and allow it now."""
        return self.filter(
            feedback__consented_at__isnull=False, feedback__user__training_consent_at__isnull=False
        )


class Example(models.Model):
    """One thing to learn, of each kind at most one from one feedback.

    `prompt` are the turns before the answer, as [{"role", "content"}]. `chosen` is the right answer, and the
    expected one of an evaluation case; `rejected` the one it takes the place of, in preference pairs alone.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    feedback = models.ForeignKey(Feedback, on_delete=models.CASCADE, related_name="examples")
    kind = models.CharField(_("kind"), max_length=10, choices=ExampleKind.choices)
    prompt = models.JSONField(_("prompt"))
    chosen = models.TextField(_("chosen"))
    rejected = models.TextField(_("rejected"), blank=True)
    created_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("accepted by"),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    objects = ExampleQuerySet.as_manager()

    class Meta:
        verbose_name = _("example")
        verbose_name_plural = _("examples")
        constraints = [
            models.UniqueConstraint(fields=["feedback", "kind"], name="feedback_example_once"),
            models.CheckConstraint(condition=Q(kind__in=ExampleKind.values), name="feedback_example_kind"),
            models.CheckConstraint(
                condition=Q(kind=ExampleKind.PREFERENCE) ^ Q(rejected=""), name="feedback_example_rejected"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
