"""The charts of what people say of answers, and of what models learn: out of the rows of these apps."""

from collections.abc import Sequence
from typing import Any

from django.db.models import BigIntegerField, Count, F, Func
from django.urls import reverse
from django.utils.translation import gettext as _

from dashboard.chart import Chart, Series, Table
from dashboard.numbers import Numbers
from dashboard.over_time import time_labels
from dashboard.period import Period, moment
from feedback.models import Feedback
from feedback.models.feedback import BAD, GOOD
from training.models import Metric, TrainingRun

RUNS_SHOWN = 3
POINTS_OF_A_RUN = 100


class Seconds(Func):
    """A moment as whole seconds since 1970, by the database's own means: on SQLite Django's are in Python."""

    output_field = BigIntegerField()
    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)", **context
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(FLOOR(EXTRACT(EPOCH FROM %(expressions)s)) AS BIGINT)"
        return self.as_sql(compiler, connection, template=template, **context)


def feedback(period: Period) -> Chart:
    counts = _ratings(period)
    numbers, starts = Numbers(), list(period.starts)
    names = {GOOD: _("Good"), BAD: _("Bad")}
    series = [
        Series(name, [counts.get((slot, rating), 0) for slot in starts]) for rating, name in names.items()
    ]
    labels, queue = time_labels(period), reverse("feedback-queue")
    rows = [[label, *(numbers.fixed(one.values[at]) for one in series)] for at, label in enumerate(labels)]
    raw = [[moment(slot).isoformat(), *(one.values[at] for one in series)] for at, slot in enumerate(starts)]
    return Chart(
        "feedback",
        _("What people say of answers"),
        "stack",
        labels,
        series,
        Table([_("Time (UTC)"), *names.values()], rows[::-1], raw),
        unit=_("ratings"),
        empty=_("Nobody has rated an answer in this time."),
        is_timed=True,
        has_links=False,
        more_link=queue,
        more_text=_("To the queue of feedback"),
    )


def _ratings(period: Period) -> dict[tuple[int, int], int]:
    seconds = Seconds(F("created_at"))
    slot = seconds - (seconds - period.start) % period.step
    rows = Feedback.objects.filter(created_at__gte=moment(period.start), created_at__lt=moment(period.end))
    counted = rows.annotate(slot=slot).order_by().values_list("slot", "rating").annotate(Count("pk"))
    return {(slot, rating): count for slot, rating, count in counted}


def training() -> Chart:
    """The losses of the last runs."""
    runs = list(TrainingRun.objects.filter(started_at__isnull=False).order_by("-created_at")[:RUNS_SHOWN])
    losses = {run: dict(_losses(run)) for run in runs}
    steps = sorted({step for points in losses.values() for step in points})
    numbers = Numbers()
    series = [Series(run.name, [points.get(step) for step in steps]) for run, points in losses.items()]
    return Chart(
        "training",
        _("What models learn: loss by step"),
        "line",
        [numbers.fixed(step) for step in steps],
        series,
        _run_table(runs, losses, numbers),
        unit=_("loss"),
        note=_("The last runs, whatever time is shown above."),
        empty=_("No training has logged anything yet."),
        more_link=reverse("training"),
        more_text=_("To the trainings"),
    )


def _losses(run: TrainingRun) -> Any:
    stride = max(1, run.step // POINTS_OF_A_RUN)
    points = Metric.objects.filter(run=run, loss__isnull=False).annotate(rest=F("step") % stride)
    return points.filter(rest=0).order_by("step").values_list("step", "loss")


def _run_table(
    runs: Sequence[TrainingRun], losses: dict[TrainingRun, dict[int, float]], numbers: Numbers
) -> Table:
    ends: list[list[float | None]] = [[*losses[run].values()] or [None] for run in runs]
    raw: list[Any] = [
        [run.name, run.get_status_display(), run.step, points[0], points[-1]]
        for run, points in zip(runs, ends, strict=True)
    ]
    rows = [
        [name, state, numbers.fixed(step), numbers.fixed(first, 4), numbers.fixed(last, 4)]
        for name, state, step, first, last in raw
    ]
    head = [_("Run"), _("State"), _("Step"), _("First loss"), _("Last loss")]
    return Table(head, rows, raw, [reverse("training-run", args=[run.pk]) for run in runs])
