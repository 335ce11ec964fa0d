"""How good a run's model is, beside the one it comes from: what staff ask for and see of it.

Rows that were held out from the training show what the model has forgotten, evaluation cases what it has
learned, and a judge, where one is asked, which of the two sets of answers is better. `training.gate` decides;
the trainer's process measures (`training.examination`).
"""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from feedback.models import Example, ExampleKind
from inference.models import ChatModelConfig
from inference.providers import KEYS
from llmsite.core.errors import EvaluationRefused, ModelNotFound, ProviderNotConfigured, message_of
from training import failures, gate
from training.models import Evaluation, RunStatus, TrainingRun
from training.promotion import adapter_of

NOBODY_PAYS = "nobody_pays"
"""Why an evaluation was not made whose judge nobody pays any more."""


# --- What staff ask for ------------------------------------------------------------------------------


def ask_for(
    run: TrainingRun, *, user: User | None, judge: str = "", thresholds: Mapping[str, Any] | None = None
) -> Evaluation:
    """Let a run be evaluated by the next worker that is free; `judge` is the alias of any model, or empty.

    Raises EvaluationRefused, InvalidInput (thresholds), ModelNotFound and ProviderNotConfigured (judge).
    """
    _require_adapter(run)
    if judge:
        _require_judge(judge)
    limits = gate.Thresholds.read(thresholds)
    try:
        with transaction.atomic():
            return Evaluation.objects.create(
                run=run, judge=judge, thresholds=limits.as_dict(), created_by=user
            )
    except IntegrityError as error:
        raise EvaluationRefused(reason=_("An evaluation of this run is under way already.")) from error


def cases() -> QuerySet[Example]:
    """The evaluation cases whose authors allow that models are made with them, the newest first."""
    trainable = Example.objects.trainable().filter(kind=ExampleKind.EVALUATION)
    return trainable.order_by("-created_at", "-id")


def _require_adapter(run: TrainingRun) -> None:
    adapter = adapter_of(run)
    if run.status != RunStatus.SUCCEEDED or adapter is None:
        raise EvaluationRefused(reason=_("This run has not succeeded, so there is nothing to evaluate."))
    if adapter.withdrawn_at is not None or run.version.withdrawn_at is not None:
        raise EvaluationRefused(
            reason=_("What this run has learned was withdrawn, because somebody in its data set is gone.")
        )


def _require_judge(alias: str) -> None:
    row = ChatModelConfig.objects.active().filter(alias=alias).first()
    if row is None:
        raise ModelNotFound(model=alias)
    if not row.is_available:
        raise ProviderNotConfigured(provider=row.provider, setting=KEYS[row.provider])
    if not cases().exists():
        raise EvaluationRefused(
            reason=_("A judge compares answers to accepted corrections, and there are none to be used yet.")
        )


def state_of(evaluation: Evaluation) -> str:
    """queued, running, done or failed."""
    if evaluation.ended_at is None:
        return "running" if evaluation.claim else "queued"
    return "failed" if evaluation.error_code else "done"


def failure_sentence(evaluation: Evaluation) -> str:
    """Why an evaluation could not be made, and what to do; empty where it was."""
    code, data = evaluation.error_code, evaluation.error_data
    if code == NOBODY_PAYS:
        return _("Who asked for it is gone, so nobody pays the judge. Ask for another evaluation.")
    if not code or code in failures.SENTENCES:
        return failures.sentence(code, data)
    return message_of(code, data)
