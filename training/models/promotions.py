"""Which adapter stood behind which model, since when, and who put it there."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from inference.models import Adapter, ChatModelConfig
from llmsite.core.ids import row_id


class PromotionStatus(models.TextChoices):
    LOADING = "loading", _("loading")
    LIVE = "live", _("live")
    FAILED = "failed", _("failed")
    REPLACED = "replaced", _("replaced")


class Promotion(models.Model):
    """One move of a model from `previous` to `adapter`; without an adapter it is the base model alone.

    A roll-back is a promotion of what was there before. LIVE: every engine process has confirmed it.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    model = models.ForeignKey(
        ChatModelConfig, on_delete=models.CASCADE, related_name="promotions", verbose_name=_("model")
    )
    adapter = models.ForeignKey(
        Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="promotions"
    )
    previous = models.ForeignKey(Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    before = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    """The promotion that a roll-back of this one puts back; without one, the base model alone."""
    is_rollback = models.BooleanField(_("roll-back"), default=False)
    status = models.CharField(
        _("status"), max_length=10, choices=PromotionStatus.choices, default=PromotionStatus.LOADING
    )
    error = models.CharField(_("error"), max_length=300, blank=True)
    """In the words of the code, or of an engine process; `reason` is what is shown."""
    created_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("promoted by"),
    )
    created_at = models.DateTimeField(_("asked"), default=timezone.now, editable=False)
    live_at = models.DateTimeField(_("live since"), null=True, editable=False)

    class Meta:
        verbose_name = _("promotion")
        verbose_name_plural = _("promotions")
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=PromotionStatus.values), name="training_promotion_status"
            ),
            models.UniqueConstraint(
                fields=["model"],
                condition=Q(status=PromotionStatus.LOADING),
                name="training_promotion_one_at_a_time",
            ),
            models.UniqueConstraint(
                fields=["model"], condition=Q(status=PromotionStatus.LIVE), name="training_promotion_one_live"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id}: {self.status}"

    @property
    def reason(self) -> str:
        """Why it failed, or why nobody has asked for it, in the reader's language; else empty."""
        return gettext(self.error)
