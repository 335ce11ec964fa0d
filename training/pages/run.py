"""One run: how far it is, what it has logged, how good it is, and the ways to promote it."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.authentication import user_of
from accounts.pages.operators import for_operators
from llmsite.core.errors import SiteError, describe
from training import failures, gate, starting, trace
from training.evaluation import failure_sentence, state_of
from training.models import Evaluation, Metric, Promotion, PromotionStatus, RunStatus, TrainingRun
from training.pages import numbers
from training.pages.forms import EvaluateForm, PromoteForm
from training.progress import progress_of
from training.promotion import adapter_of, converge
from training.promotion_api import run_of

METRICS_SHOWN = 50
ANSWERS_SHOWN = 20
EVALUATIONS_SHOWN = 10


@require_GET
@for_operators
def run(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _page(request, run_of(pk))


@require_POST
@for_operators
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = run_of(pk)
    try:
        starting.cancel(row, user=user_of(request))
    except SiteError as error:
        messages.error(request, describe(error).message)
    else:
        messages.success(request, _("%(name)s is being cancelled.") % {"name": row.name})
    return redirect("training-run", pk)


@require_POST
@for_operators
def evaluate(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = run_of(pk)
    form = EvaluateForm(request.POST)
    if form.save(row, user_of(request)) is None:
        return _page(request, row, evaluate_form=form, status=400)
    messages.success(request, _("The evaluation waits for the trainer."))
    return redirect("training-run", pk)


@require_POST
@for_operators
def promote(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = run_of(pk)
    form = PromoteForm(row, request.POST)
    move = form.save(user_of(request))
    if move is None:
        return _page(request, row, promote_form=form, status=400)
    messages.success(
        request, _("%(model)s moves as soon as its processes have loaded it.") % {"model": move.model.alias}
    )
    return redirect("training-run", pk)


# --- The page ------------------------------------------------------------------------------------------


def _page(request: HttpRequest, row: TrainingRun, *, status: int = 200, **forms: Any) -> HttpResponse:
    # Where no model process lives, whoever looks is the one to see that it took too long.
    converge()
    adapter = adapter_of(row)
    moves = list(_moves(adapter))
    evaluations = list(row.evaluations.all()[:EVALUATIONS_SHOWN])
    context = {
        "section": "runs",
        "run": row,
        "progress": progress_of(row),
        "failure": failures.sentence(row.error_code, row.error_data) if row.error_code else "",
        "settings": row.settings.items(),
        "metrics": _metrics(row),
        "adapter": adapter,
        "evaluations": [_shown(evaluation) for evaluation in evaluations],
        "moves": moves,
        "chain": trace.of_run(row),
        "is_moving": _is_moving(row, evaluations, moves),
        "evaluate_form": EvaluateForm(),
        "promote_form": PromoteForm(row),
        **forms,
    }
    return render(request, "training/run.html", context, status=status)


def _is_moving(row: TrainingRun, evaluations: list[Evaluation], moves: list[Promotion]) -> bool:
    """Whether the page will look otherwise in a moment."""
    return (
        row.status in (RunStatus.QUEUED, RunStatus.RUNNING)
        or any(evaluation.ended_at is None for evaluation in evaluations)
        or any(move.status == PromotionStatus.LOADING for move in moves)
    )


def _metrics(row: TrainingRun) -> list[dict[str, Any]]:
    """What was logged last, the newest first."""
    return [
        {
            "step": metric.step,
            "loss": numbers.loss(metric.loss),
            "eval_loss": numbers.loss(metric.eval_loss),
            "learning_rate": numbers.rate(metric.learning_rate),
            "gradient_norm": numbers.loss(metric.gradient_norm),
            "tokens_per_second": numbers.speed(metric.tokens_per_second),
        }
        for metric in Metric.objects.filter(run=row).order_by("-step")[:METRICS_SHOWN]
    ]


def _moves(adapter: Any) -> Any:
    if adapter is None:
        return Promotion.objects.none()
    return Promotion.objects.filter(adapter=adapter).select_related("model", "created_by")[:ANSWERS_SHOWN]


def _shown(evaluation: Evaluation) -> dict[str, Any]:
    answers = evaluation.answers.select_related("example").order_by("example__created_at", "pk")
    return {
        "row": evaluation,
        "state": state_of(evaluation),
        "failure": failure_sentence(evaluation),
        "reasons": [gate.sentence(reason) for reason in evaluation.reasons],
        "sets": [*_sets(evaluation.results)],
        "judge": _judge(evaluation.results.get("judge")),
        "answers": [
            {"row": answer, "question": answer.example.prompt[-1]["content"]}
            for answer in answers[:ANSWERS_SHOWN]
        ],
    }


def _sets(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = {"heldout": _("Held-out rows"), "cases": _("Accepted corrections")}
    for key, name in names.items():
        if (measured := results.get(key)) and measured["after"]["count"]:
            before, after = measured["before"], measured["after"]
            yield {
                "name": name,
                "count": after["count"],
                "lines": [
                    (_("Loss"), numbers.loss(before["loss"]), numbers.loss(after["loss"])),
                    (
                        _("Exactly right"),
                        numbers.score(before["exact_match"]),
                        numbers.score(after["exact_match"]),
                    ),
                    (
                        _("Likeness (ROUGE-L)"),
                        numbers.score(before["rouge_l"]),
                        numbers.score(after["rouge_l"]),
                    ),
                ],
            }


def _judge(judged: dict[str, Any] | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    shares = {name: numbers.score(judged[name]) for name in ("rate", "low", "high")}
    return {**judged, **shares}
