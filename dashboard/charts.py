"""The charts of answers, out of the figures of a period: what each of them shows."""

from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from dashboard import colours, figures, targets
from dashboard.chart import Chart, Series
from dashboard.figures import Figures
from dashboard.histogram import ERROR
from dashboard.models import FIRST_TOKEN, LATENCY
from dashboard.numbers import Numbers
from dashboard.over_time import OverTime
from dashboard.period import USUAL, preset
from dashboard.shares import Shares

PERCENTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
LEVELS = ("verified", "l1", "l2", "l3")


def main_charts(*, range_name: str = USUAL) -> list[dict[str, Any]]:
    """Requests, latency, errors and cost of the last day, for `dashboard/_main_charts.html`.

    Each is as `shown` gives it, and the first has what is drawn of all of them, too ("drawn"), and what is
    missing in them ("missing", a text).
    """
    now = timezone.now()
    read = figures.read(preset(range_name, now))
    made = Charts(read, now.timestamp())
    four = [made.requests(), made.latency(), made.errors(), made.cost()]
    first, *others = map(shown, four)
    return [{**first, "drawn": made.drawn(four), "missing": missing_text(read, made.numbers)}, *others]


def missing_text(read: Figures, numbers: Numbers) -> str:
    """That the numbers are not all of it, in a sentence; "" where they are."""
    if not read.missing:
        return ""
    number = numbers.fixed(read.missing)
    if read.missing >= figures.MOST_MISSING:
        return _("Answers are still being counted; more than %(number)s older ones are missing.") % {
            "number": number
        }
    return _("Answers are still being counted; about %(number)s older ones are missing.") % {"number": number}


def shown(chart: Chart) -> dict[str, Any]:
    """A chart for a template."""
    return {
        "key": chart.key,
        "title": chart.title,
        "note": chart.note,
        "unit": chart.unit,
        "is_empty": chart.is_empty,
        "empty": chart.empty,
        "more_link": chart.more_link,
        "more_text": chart.more_text,
        "head": [str(name) for name in chart.table.head],
        "table": chart.table.html(),
    }


class Charts(OverTime):
    """All charts of one reading. `compares` draws the period before beside the requests, errors and cost."""

    def __init__(self, read: Figures, now: float, *, compares: bool = False) -> None:
        super().__init__(read)
        self._seconds = now
        self._compares = compares
        self._shares = Shares(read)

    def all(self) -> list[Chart]:
        return [
            self.requests(),
            self.errors(),
            self.latency(),
            self.first_token(),
            self.hits(),
            self.saved(),
            self.cost(),
            self.tokens(),
            *self._shares.all(),
            self.unanswered(),
        ]

    # --- What comes in, and what of it fails -------------------------------------------------------

    def requests(self) -> Chart:
        # The period before has passed; of this one the last step is under way.
        rates = self._rates(self._now, self._seconds)
        series = [Series(_("Requests a minute"), rates)]
        if self._compares:
            before = self._rates(self._before, float("inf"))
            series.append(Series(_("The period before"), before, "before"))
        return self._over_time(
            "requests",
            _("Requests a minute"),
            series,
            self.numbers.short,
            more=[(_("Answers"), [share.answers for share in self._slots()], self.numbers.fixed)],
        )

    def errors(self) -> Chart:
        kinds = self._most(self._now.by_error)
        shades = colours.of_names(kinds)
        series = self._parts(self._by_name(self._now.by_error, kinds, shades.__getitem__))
        if self._compares:
            rates = [_percent(self._before.by_slot[slot].error_rate) for slot in self._before.period.starts]
            series.append(Series(_("All, in the period before"), rates, "before"))
        series.append(self._target(_("Target"), 100 * targets.ERROR_RATE))
        total = [_percent(share.error_rate) for share in self._slots()]
        return self._over_time(
            "errors",
            _("Errors by kind"),
            series,
            self._percent_text,
            kind="stack",
            unit=_("% of all answers"),
            more=[(_("All errors"), total, self._percent_text)],
            only="errors",
            empty=_("No answer has failed in this time."),
        )

    # --- How long it takes -------------------------------------------------------------------------

    def latency(self) -> Chart:
        return self._percentiles(
            "latency", _("Time to the whole answer"), LATENCY, targets.LATENCY_P95_MS, _("Target of p95")
        )

    def first_token(self) -> Chart:
        return self._percentiles(
            "first_token",
            _("Time to the first token"),
            FIRST_TOKEN,
            targets.FIRST_TOKEN_P95_MS,
            _("Target of p95"),
        )

    def _percentiles(self, key: str, title: str, measure: str, target: float, target_name: str) -> Chart:
        series = [
            Series(name, [self._now.percentile(slot, measure, share) for slot in self._starts])
            for name, share in PERCENTILES
        ]
        series.append(self._target(target_name, target))
        note = _("Percentiles are told to within %(percent)s %%; answers from the cache count, too.")
        return self._over_time(
            key,
            title,
            series,
            self.numbers.duration,
            unit=_("milliseconds"),
            scale="logarithmic",
            note=note % {"percent": self.numbers.fixed(100 * ERROR)},
        )

    # --- The cache -----------------------------------------------------------------------------------

    def hits(self) -> Chart:
        levels = [level for level in LEVELS if any(name == level for _, name in self._now.by_level)]
        levels += [name for name in self._most(self._now.by_level) if name not in levels]
        shades = {name: at for at, name in enumerate(LEVELS)}
        series = self._parts(
            self._by_name(self._now.by_level, levels, lambda name: shades.get(name, len(shades)))
        )
        for one in series:
            one.name = _level_name(one.name)
        total = [_percent(share.hit_rate) for share in self._slots()]
        return self._over_time(
            "hits",
            _("Answers from the cache, by level"),
            series,
            self._percent_text,
            kind="stack",
            unit=_("% of all answers"),
            more=[(_("All levels"), total, self._percent_text)],
            empty=_("No answer came from the cache in this time."),
        )

    def saved(self) -> Chart:
        values = [share.saved_micro / 1e6 for share in self._slots()]
        return self._over_time(
            "saved",
            _("Money saved by the cache"),
            [Series(_("Saved"), values)],
            self._money_text,
            kind="stack",
            unit=settings.CURRENCY,
            note=_(
                "What the tokens of an answer from the cache would have cost, at the price that its model "
                "had when the answer was counted."
            ),
            empty=_("The cache has saved no money in this time."),
        )

    # --- What it costs -------------------------------------------------------------------------------

    def cost(self) -> Chart:
        costs = {
            key: share.cost_micro / 1e6 for key, share in self._now.by_provider.items() if share.cost_micro
        }
        series = list(self._by_name(costs, self._most(costs), colours.of_provider))
        if self._compares:
            before = [self._before.by_slot[slot].cost_micro / 1e6 for slot in self._before.period.starts]
            series.append(Series(_("All, in the period before"), before, "before"))
        total = [share.cost_micro / 1e6 for share in self._slots()]
        return self._over_time(
            "cost",
            _("Cost by provider"),
            series,
            self._money_text,
            kind="stack",
            unit=settings.CURRENCY,
            more=[(_("All providers"), total, self._money_text)],
            empty=_("Nothing was paid for in this time."),
        )

    def tokens(self) -> Chart:
        counts = {
            key: share.input_tokens + share.output_tokens for key, share in self._now.by_provider.items()
        }
        series = list(self._by_name(counts, self._most(counts), colours.of_provider))
        return self._over_time(
            "tokens",
            _("Tokens by provider"),
            series,
            self.numbers.fixed,
            kind="stack",
            unit=_("tokens read and written"),
            more=[
                (_("Tokens in"), [share.input_tokens for share in self._slots()], self.numbers.fixed),
                (_("Tokens out"), [share.output_tokens for share in self._slots()], self.numbers.fixed),
            ],
            note=_("Answers from the cache are not in it: no model worked on them."),
        )

    def unanswered(self) -> Chart:
        counts = [share.unanswered for share in self._slots()]
        return self._over_time(
            "unanswered",
            _("Questions without an answer in the documents"),
            [Series(_("Questions"), counts)],
            self.numbers.fixed,
            kind="stack",
            only="unanswered",
            empty=_("Every question found something, or none was asked of documents."),
        )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _level_name(level: str) -> str:
    names = {
        "l1": _("memory (L1)"),
        "l2": _("Redis (L2)"),
        "l3": _("other words (L3)"),
        "verified": _("verified answers"),
    }
    return names.get(level, level)
