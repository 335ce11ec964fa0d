"""Which adapter stood behind which model; a model is rolled back here."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, HistoryAdmin, RowAction
from accounts.models import User
from training.models import Promotion, PromotionStatus
from training.promotion import rollback


def _roll_back(promotion: Promotion, actor: User) -> bool:
    if promotion.status not in (PromotionStatus.LIVE, PromotionStatus.LOADING):
        return False
    rollback(user=actor, model=promotion.model)
    return True


@admin.register(Promotion)
class PromotionAdmin(FoundByIndex, HistoryAdmin):
    list_display = ("model", "adapter", "is_rollback", "status", "created_by", "created_at", "live_at")
    list_select_related = ("model", "adapter", "created_by")
    list_filter = ("status", "is_rollback")
    search_fields = ("pk", "adapter__name", "model__alias")
    search_help_text = _("The name of an adapter or of a model, or an id")
    date_hierarchy = "created_at"
    ordering = ("-pk",)
    fields = readonly_fields = (
        "id",
        "model",
        "adapter",
        "previous",
        "is_rollback",
        "status",
        "why",
        "created_by",
        "created_at",
        "live_at",
    )
    actions = (
        RowAction(
            "roll_back",
            _roll_back,
            label=_("Roll back models"),
            question=_(
                "Where a promotion is live, its model answers with what stood behind it before; one that is "
                "under way is called off."
            ),
            permission="accounts.operate",
            needs_password=True,
        ),
    )

    @admin.display(description=_("error"))
    def why(self, promotion: Promotion) -> str:
        return promotion.reason
