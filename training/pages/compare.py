"""Several runs side by side: their curves in one chart, their settings and how they did."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.pages.operators import for_operators
from training.models import Evaluation, Metric, TrainingRun
from training.pages import numbers
from training.pages.frame import uuid_of
from training.promotion import judged

MOST = 5
"""More curves in one chart nobody tells apart."""


@require_GET
@for_operators
def compare(request: HttpRequest) -> HttpResponse:
    """`?run=ID` for each of them."""
    ids = list(dict.fromkeys(pk for raw in request.GET.getlist("run") if (pk := uuid_of(raw))))
    rows = {row.pk: row for row in TrainingRun.objects.select_related("version__dataset").filter(pk__in=ids)}
    runs = [rows[pk] for pk in ids if pk in rows]
    context = {
        "section": "runs",
        "columns": [_column(run) for run in runs[:MOST]],
        "settings": _settings(runs[:MOST]),
        "left_out": len(runs) - MOST if len(runs) > MOST else 0,
    }
    return render(request, "training/compare.html", context)


def _column(run: TrainingRun) -> dict[str, Any]:
    evaluation = judged(run)
    return {
        "run": run,
        "loss": numbers.loss(_last(run, "loss")),
        "eval_loss": numbers.loss(_last(run, "eval_loss")),
        "speed": numbers.speed(_last(run, "tokens_per_second")),
        "passed": evaluation.passed if evaluation else None,
        "cases": _cases(evaluation),
    }


def _last(run: TrainingRun, name: str) -> float | None:
    metrics = Metric.objects.filter(run=run).exclude(**{name: None})
    return metrics.order_by("-step").values_list(name, flat=True).first()


def _cases(evaluation: Evaluation | None) -> str:
    """How like its answers are to accepted corrections."""
    cases = evaluation.results.get("cases") if evaluation else None
    return numbers.score(cases["after"]["rouge_l"] if cases and cases["after"]["count"] else None)


def _settings(runs: list[TrainingRun]) -> list[tuple[str, list[Any]]]:
    """Those settings in which the runs differ."""
    names = sorted({name for run in runs for name in run.settings})
    rows = [(name, [run.settings.get(name) for run in runs]) for name in names]
    return [(name, values) for name, values in rows if len({str(value) for value in values}) > 1]
