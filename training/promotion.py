"""Which adapter stands behind a model: put there by one click, and taken away again by another.

A promotion waits (LOADING) until every engine process has loaded its adapter, and the model answers as before
meanwhile. Then one transaction moves the model's row, and every web process asks for the adapter within a
second (`inference.catalogue`). Where a process cannot load it, or nobody does in time, the model stays what
it is. `converge` takes these steps; it may run anywhere and any number of times at once.
"""

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from inference.adapters import confirmed, folder_of
from inference.models import Adapter, ChatModelConfig
from llmsite.core.errors import PromotionRefused
from training.models import Evaluation, Promotion, PromotionStatus, RunStatus, TrainingRun

log = structlog.get_logger("llmsite.promotion")

LOADING_LASTS = timedelta(seconds=90)
"""After so long without a word of every engine process a promotion has failed."""
LOOK_SECONDS = 0.5

# Kept as they are written here, and put into the reader's language where they are shown (`Promotion.reason`).
WITHDRAWN = gettext_noop("The adapter was withdrawn.")
TOO_LATE = gettext_noop("Not every model process has loaded it in time. Their logs say why.")
CALLED_OFF = gettext_noop("Called off.")


# --- What staff ask for ------------------------------------------------------------------------------


def promote(run: TrainingRun, *, user: User | None, model: ChatModelConfig | None = None) -> Promotion:
    """Put what `run` has learned behind `model`, or behind the first that serves its base model.

    Raises PromotionRefused, saying why.
    """
    adapter = adapter_of(run)
    if adapter is None or run.status != RunStatus.SUCCEEDED:
        raise PromotionRefused(reason=_("This run has not succeeded, so there is nothing to promote."))
    _require_good(run, adapter)
    _require_same_base(adapter)
    model = model or next(iter(models_for(adapter)), None)
    _require_model(model, adapter)
    assert model is not None
    return _begin(model, adapter, before=standing(model), user=user)


def rollback(*, user: User | None, model: ChatModelConfig | None = None) -> Promotion:
    """Put back what stood behind `model` before, or call off the promotion that is under way.

    Without a model it is that which was promoted last. Raises PromotionRefused where there is nothing to go
    back to.
    """
    model = model or _last_promoted()
    if model is None:
        raise _nothing_before()
    if (loading := _call_off(model, user)) is not None:
        return loading
    live = standing(model)
    if live is None or live.adapter is None:
        raise _nothing_before()
    before = _good_before(live)
    if before is None or before.adapter is None:
        return _to_base(live, user=user)
    return _begin(model, before.adapter, before=before.before, user=user, is_rollback=True)


def withdraw(adapters: Iterable[Adapter], *, because: str, actor: User | None = None) -> int:
    """Take adapters out of use for good; how many were not yet.

    `because` is a sentence for operators, as the code has it: it is translated where it is shown.
    A model that stands on one of them is its base model alone from now on: nothing has to be loaded for that.
    Their files, which may hold what somebody wrote by heart, are removed.
    """
    with transaction.atomic():
        rows = Adapter.objects.filter(pk__in=[adapter.pk for adapter in adapters], withdrawn_at=None)
        going = list(rows)
        rows.update(withdrawn_at=timezone.now(), withdrawn_because=because[:200])
        moves = Promotion.objects.filter(adapter__in=going)
        moves.filter(status=PromotionStatus.LOADING).update(status=PromotionStatus.FAILED, error=WITHDRAWN)
        for live in moves.filter(status=PromotionStatus.LIVE).select_related("model", "adapter"):
            _to_base(live, user=actor, because=because)
        # Those that no promotion has put there, too.
        ChatModelConfig.objects.filter(adapter__in=[adapter.name for adapter in going]).update(adapter="")
        for adapter in going:
            record(AuditKind.ADAPTER_WITHDRAWN, subject=None, actor=actor, adapter=adapter.name)
            transaction.on_commit(partial(shutil.rmtree, folder_of(adapter.name), ignore_errors=True))
    return len(going)


def remove_files(withdrawn: Iterable[Adapter]) -> int:
    """Remove what a process that died in the middle of `withdraw` has left; how many. Raises OSError."""
    folders = [folder for adapter in withdrawn if (folder := folder_of(adapter.name)).exists()]
    for folder in folders:
        shutil.rmtree(folder)
    return len(folders)


# --- What is so at the moment ------------------------------------------------------------------------


def adapter_of(run: TrainingRun) -> Adapter | None:
    return Adapter.objects.filter(run=run.pk).first()


def standing(model: ChatModelConfig) -> Promotion | None:
    """The promotion that is in force; None where there never was one."""
    live = Promotion.objects.filter(model=model, status=PromotionStatus.LIVE)
    return live.select_related("adapter", "before").first()


def models_for(adapter: Adapter) -> QuerySet[ChatModelConfig]:
    """The active models that serve its base model here, the default first."""
    rows = ChatModelConfig.objects.active().filter(provider="local", base_url="")
    return rows.filter(provider_model=adapter.base_model).order_by("-is_default", "alias")


def judged(run: TrainingRun) -> Evaluation | None:
    """The newest evaluation of `run` that came to a verdict: it is the one that counts."""
    return run.evaluations.exclude(passed=None).first()


def wanted() -> list[str]:
    """The names of the adapters that engine processes have to load beside those that models name."""
    loading = Promotion.objects.filter(status=PromotionStatus.LOADING, adapter__withdrawn_at=None)
    return [name for name in loading.values_list("adapter__name", flat=True) if name]


# --- Converging --------------------------------------------------------------------------------------


def converge() -> None:
    """Take each promotion one step further, where the engine processes have spoken."""
    in_force = (PromotionStatus.LOADING, PromotionStatus.LIVE)
    moves = Promotion.objects.filter(status__in=in_force)
    for move in moves.select_related("adapter", "model"):
        if move.status == PromotionStatus.LIVE:
            _look_after(move)
        else:
            _converge_one(move)


def _look_after(live: Promotion) -> None:
    """Let a model be its base model alone where what it stands on is gone: better than no answer at all."""
    if live.adapter is not None and live.adapter.withdrawn_at is not None:
        _to_base(live, user=None, because=WITHDRAWN)
        return
    if live.model.is_served_here and live.model.adapter != _name_of(live):
        _put_back(live)
    if live.adapter is None:
        return
    heard = confirmed(live.adapter)
    if heard.failed and not heard.ready and not heard.waiting:
        _to_base(live, user=None, because=heard.failed[0])


def _converge_one(move: Promotion) -> None:
    assert move.adapter is not None
    if move.adapter.withdrawn_at is not None:
        _fail(move, WITHDRAWN)
        return
    heard = confirmed(move.adapter)
    if heard.failed:
        _fail(move, heard.failed[0])
    elif heard.is_complete:
        _go_live(move)
    elif timezone.now() - move.created_at > LOADING_LASTS:
        _fail(move, TOO_LATE)


def _go_live(move: Promotion) -> bool:
    """Let the model be what `move` says, in one transaction; False where somebody was faster."""
    with transaction.atomic():
        others = Promotion.objects.filter(model=move.model_id, status=PromotionStatus.LIVE)
        others.exclude(pk=move.pk).update(status=PromotionStatus.REPLACED)
        mine = Promotion.objects.filter(pk=move.pk, status=PromotionStatus.LOADING)
        if not mine.update(status=PromotionStatus.LIVE, live_at=timezone.now()):
            transaction.set_rollback(True)
            return False
        name = _name_of(move)
        ChatModelConfig.objects.filter(pk=move.model_id).update(adapter=name)
    log.info("model_moved", model=move.model.alias, adapter=name)
    return True


def _put_back(live: Promotion) -> None:
    """Let the model's row say again what is live: somebody has saved the whole row as it was before."""
    with transaction.atomic():
        # Locked, so that a promotion that goes live meanwhile comes before it or after it.
        still = Promotion.objects.select_for_update().filter(pk=live.pk, status=PromotionStatus.LIVE)
        same = ChatModelConfig.objects.filter(pk=live.model_id, adapter=live.model.adapter)
        if not (still.first() and same.update(adapter=_name_of(live))):
            return
    log.warning("model_put_back", model=live.model.alias, found=live.model.adapter, adapter=_name_of(live))


def _name_of(move: Promotion) -> str:
    """What the model's row says where `move` is live."""
    return move.adapter.name if move.adapter else ""


def _fail(move: Promotion, why: str) -> None:
    loading = Promotion.objects.filter(pk=move.pk, status=PromotionStatus.LOADING)
    if loading.update(status=PromotionStatus.FAILED, error=why[:300]):
        log.warning("promotion_failed", model=move.model.alias, adapter=str(move.adapter), error=why)


def wait_for(move: Promotion) -> Promotion:
    """Look on until `move` is decided, for a command at a terminal; its row as it is then."""
    while move.status == PromotionStatus.LOADING:
        # Where no engine process lives nobody else would ever say that it took too long.
        converge()
        time.sleep(LOOK_SECONDS)
        move.refresh_from_db()
    return move


# --- Beginning ---------------------------------------------------------------------------------------


def _begin(
    model: ChatModelConfig,
    adapter: Adapter,
    *,
    before: Promotion | None,
    user: User | None,
    is_rollback: bool = False,
) -> Promotion:
    """A promotion that waits for the engine processes. Raises PromotionRefused where one does already."""
    try:
        with transaction.atomic():
            move = Promotion.objects.create(
                model=model,
                adapter=adapter,
                previous=_named(model.adapter),
                before=before,
                is_rollback=is_rollback,
                created_by=user,
            )
            _record(move, user)
    except IntegrityError as error:
        reason = _("Another promotion of this model is under way. Wait for its end, or call it off.")
        raise PromotionRefused(reason=reason) from error
    return move


def _to_base(live: Promotion, *, user: User | None, because: str = "") -> Promotion:
    """Let the model be its base model alone, at once: there is nothing to wait for.

    `because` says why nobody has asked for it.
    """
    with transaction.atomic():
        # What is under way would only come after this.
        _call_off(live.model, user)
        move = Promotion.objects.create(
            model=live.model,
            adapter=None,
            previous=live.adapter,
            is_rollback=True,
            error=because[:300],
            created_by=user,
        )
        _record(move, user)
        _go_live(move)
    move.refresh_from_db()
    return move


def _call_off(model: ChatModelConfig, user: User | None) -> Promotion | None:
    """End the promotion that is under way, if one is; the model never moved."""
    with transaction.atomic():
        loading = Promotion.objects.filter(model=model, status=PromotionStatus.LOADING)
        move = loading.first()
        if move is None or not loading.filter(pk=move.pk).update(
            status=PromotionStatus.FAILED, error=CALLED_OFF
        ):
            return None
        name = move.adapter.name if move.adapter else None
        record(AuditKind.ADAPTER_RESTORED, subject=None, actor=user, model=model.alias, called_off=name)
    move.refresh_from_db()
    return move


def _record(move: Promotion, user: User | None) -> None:
    kind = AuditKind.ADAPTER_RESTORED if move.is_rollback else AuditKind.ADAPTER_PROMOTED
    record(
        kind,
        subject=None,
        actor=user,
        model=move.model.alias,
        adapter=move.adapter.name if move.adapter else None,
        before=move.previous.name if move.previous else None,
    )


def _good_before(live: Promotion) -> Promotion | None:
    """What stood there before `live` and may stand there again."""
    before = live.before
    while before is not None and before.adapter is not None and before.adapter.withdrawn_at is not None:
        before = before.before
    return before


def _named(name: str) -> Adapter | None:
    return Adapter.objects.filter(name=name).first() if name else None


def _last_promoted() -> ChatModelConfig | None:
    in_force = (PromotionStatus.LOADING, PromotionStatus.LIVE)
    last = Promotion.objects.filter(status__in=in_force).select_related("model").first()
    return last.model if last else None


# --- What stands against it --------------------------------------------------------------------------


def _require_good(run: TrainingRun, adapter: Adapter) -> None:
    """Raises PromotionRefused."""
    if adapter.withdrawn_at is not None or run.version.withdrawn_at is not None:
        # The second where a run ended after its data set was withdrawn.
        why = _(adapter.withdrawn_because)
        raise PromotionRefused(reason=_("What this run has learned was withdrawn. %(why)s") % {"why": why})
    if run.evaluations.filter(ended_at=None).exists():
        raise PromotionRefused(reason=_("Its evaluation is still being made."))
    evaluation = judged(run)
    if evaluation is None:
        raise PromotionRefused(reason=_("This run has no evaluation yet. Ask for one first."))
    if not evaluation.passed:
        raise PromotionRefused(
            reason=_("Its evaluation did not pass the gate; the page of the run says why.")
        )


def _require_same_base(adapter: Adapter) -> None:
    """Raises PromotionRefused. Where the weights are on another machine, the engine there looks itself."""
    # It computes with numpy, which a web process has no other use for.
    from inference.engine.base_model import base_model
    from inference.engine.runner import EngineError

    with suppress(EngineError):
        base = base_model(settings.LOCAL_MODEL_PATH, settings.MODELS_ROOT)
        if base.sha256 != adapter.base_sha256:
            reason = _("The base model has changed since the run: train again on the one that is served now.")
            raise PromotionRefused(reason=reason)


def _require_model(model: ChatModelConfig | None, adapter: Adapter) -> None:
    """Raises PromotionRefused."""
    if settings.LOCAL_BASE_URL:
        raise PromotionRefused(
            reason=_("Another server (LOCAL_BASE_URL) has the local models, and adapters are loaded there.")
        )
    if model is None or not models_for(adapter).filter(pk=model.pk).exists():
        reason = _("The base model it was trained on, %(base)s, is not served here any more.")
        raise PromotionRefused(reason=reason % {"base": adapter.base_model})
    if model.adapter == adapter.name:
        raise PromotionRefused(reason=_("It stands behind %(model)s already.") % {"model": model.alias})


def _nothing_before() -> PromotionRefused:
    return PromotionRefused(reason=_("The model stands on no adapter, so there is nothing to go back to."))
