"""What stood behind each model, since when and by whom; and the way back."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.authentication import user_of
from accounts.pages.operators import for_operators
from inference.models import ChatModelConfig
from llmsite.core.errors import SiteError, describe
from training.models import Promotion, PromotionStatus
from training.pages.frame import uuid_of
from training.promotion import converge, rollback, standing

SHOWN = 25


@require_GET
@for_operators
def history(request: HttpRequest) -> HttpResponse:
    # Where no model process lives, whoever looks is the one to see that it took too long.
    converge()
    rows = list(_older_than(uuid_of(request.GET.get("before")))[: SHOWN + 1])
    page = rows[:SHOWN]
    context = {
        "section": "history",
        "models": _models(),
        "moves": page,
        "is_moving": any(move.status == PromotionStatus.LOADING for move in page),
        "older": f"{resolve_url('training-history')}?before={page[-1].pk}" if len(rows) > SHOWN else "",
    }
    return render(request, "training/history.html", context)


@require_POST
@for_operators
def roll_back(request: HttpRequest) -> HttpResponse:
    alias = request.POST.get("model", "")
    try:
        move = rollback(user=user_of(request), model=ChatModelConfig.objects.named(alias))
    except SiteError as error:
        messages.error(request, describe(error).message)
    else:
        messages.success(request, _told(move))
    return redirect("training-history")


def _told(move: Promotion) -> str:
    names = {"model": move.model.alias}
    if move.status == PromotionStatus.FAILED:
        return _("The promotion is called off; %(model)s stays what it is.") % names
    if move.status == PromotionStatus.LIVE:
        return _("%(model)s is its base model alone again.") % names
    return _("%(model)s goes back as soon as its processes have loaded what stood there before.") % names


def _models() -> list[dict[str, Any]]:
    """The models that serve local weights, with what they stand on."""
    rows = ChatModelConfig.objects.active().filter(provider="local", base_url="").order_by("alias")
    loading = Promotion.objects.filter(status=PromotionStatus.LOADING).select_related("adapter")
    under_way = {move.model_id: move for move in loading}
    return [{"model": row, "live": standing(row), "loading": under_way.get(row.pk)} for row in rows]


def _older_than(pk: UUID | None) -> QuerySet[Promotion]:
    """The newest first; from the one after `pk` on."""
    rows = Promotion.objects.select_related("model", "adapter", "previous", "created_by")
    rows = rows.order_by("-created_at", "id")
    last = Promotion.objects.filter(pk=pk).first() if pk else None
    if last is None:
        return rows
    same_moment = Q(created_at=last.created_at, pk__gt=last.pk)
    return rows.filter(Q(created_at__lt=last.created_at) | same_moment)
