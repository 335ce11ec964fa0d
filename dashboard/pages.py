"""The pages for operators, the JSON by which they keep true, and the CSV of what they show."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from accounts.pages.operators import for_operators
from dashboard import answers, charts, figures, other_charts, roller
from dashboard.chart import Chart, as_csv
from dashboard.charts import Charts
from dashboard.figures import Figures
from dashboard.numbers import Numbers
from dashboard.period import MOST_DAYS, PRESETS, Period, is_cut, is_misread, period_of, typed
from dashboard.state import state_of
from dashboard.tiles import tiles
from inference.models import Generation
from llmsite.core.errors import NotFound

RANGES = {
    "1h": gettext_lazy("1 hour"),
    "6h": gettext_lazy("6 hours"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
    "30d": gettext_lazy("30 days"),
    "90d": gettext_lazy("90 days"),
}
assert RANGES.keys() == PRESETS.keys()


@require_safe
@for_operators
def overview(request: HttpRequest) -> HttpResponse:
    reading = _Reading(request)
    return render(request, "dashboard/overview.html", reading.context())


@require_safe
@for_operators
def data(request: HttpRequest) -> HttpResponse:
    """What the page takes over every few seconds: what is drawn, and its parts as the page has them."""
    reading = _Reading(request)
    context = reading.context()
    parts = {
        name: render_to_string(f"dashboard/_{name}.html", context, request)
        for name in ("health", "tiles", "state", "moment")
    }
    parts |= {f"table-{one['key']}": one["table"] for one in context["charts"]}
    return JsonResponse({**context["drawn"], "parts": parts})


@require_safe
@for_operators
def export(request: HttpRequest) -> HttpResponse:
    """The tables of what is shown, or of one chart of it (`chart`)."""
    reading = _Reading(request)
    wanted = request.GET.get("chart")
    chosen = [one for one in reading.charts if wanted in (None, "", one.key)]
    if not chosen:
        raise NotFound
    name = f"dashboard-{wanted or 'all'}-{typed(reading.period.start)[:10]}.csv"
    # With a mark of its encoding, without which a spreadsheet takes it for another one.
    answer = HttpResponse("\ufeff" + as_csv(chosen), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@require_safe
@for_operators
def answer_list(request: HttpRequest) -> HttpResponse:
    page, numbers = answers.page(request.GET.dict()), Numbers()
    context = {
        "section": "answers",
        "rows": [_answer_row(row, numbers) for row in page.rows],
        "older": page.older,
        "chosen": answers.told(request.GET.dict()),
    }
    return render(request, "dashboard/answers.html", context)


@require_safe
@for_operators
def answer(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = Generation.objects.select_related("user", "api_key").filter(pk=pk).first()
    if row is None:
        raise NotFound
    context = {"section": "answers", "answer": row, "facts": answers.facts(row, Numbers())}
    return render(request, "dashboard/answer.html", context)


# --- What the pages show -------------------------------------------------------------------------------


class _Reading:
    """What one request is told, read once."""

    def __init__(self, request: HttpRequest) -> None:
        now = timezone.now()
        self.query = request.GET.dict()
        self.period = period_of(self.query, now=now, minutes_since=roller.minutes_since())
        self.compares = self.query.get("compare") == "1"
        self.figures: Figures = figures.read(self.period)
        self.made = Charts(self.figures, now.timestamp(), compares=self.compares)
        self.charts: list[Chart] = [
            *self.made.all(),
            other_charts.feedback(self.period),
            other_charts.training(),
        ]

    def context(self) -> dict[str, Any]:
        return {
            "section": "overview",
            "charts": [charts.shown(one) for one in self.charts],
            "drawn": self.made.drawn(self.charts),
            "tiles": tiles(self.figures),
            "state": state_of(self.figures),
            "missing": charts.missing_text(self.figures, self.made.numbers),
            "misread": is_misread(self.query, self.period),
            "cut_to_days": MOST_DAYS if is_cut(self.query, self.period) else None,
            "period": self.period,
            "since": typed(self.period.start),
            "until": typed(self.period.end),
            "ranges": [(name, text, name == self.period.name) for name, text in RANGES.items()],
            "compares": self.compares,
            "asked": self._asked(),
            "other_compare": self._asked(compare="" if self.compares else "1"),
            "now": timezone.now(),
        }

    def _asked(self, **changes: str) -> str:
        """The query of this page, which its JSON and CSV take too."""
        return query_of(self.period, **{"compare": "1" if self.compares else "", **changes})


def query_of(period: Period, **more: str) -> str:
    named = {"range": period.name} if period.name else {"from": typed(period.start), "to": typed(period.end)}
    return urlencode({**named, **{name: value for name, value in more.items() if value}})


def _answer_row(row: dict[str, Any], numbers: Numbers) -> dict[str, Any]:
    return {
        **row,
        "status_text": answers.status_text(row["status"]),
        "latency": numbers.duration(row["latency_ms"]),
        "first": numbers.duration(row["time_to_first_token_ms"]),
        "read": numbers.fixed(row["input_tokens"]),
        "written": numbers.fixed(row["output_tokens"]),
        "cost": numbers.money(row["cost_micro"]),
    }
