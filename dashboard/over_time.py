"""How a chart over time is made: of the steps of a period, with a table, and links to what is behind each."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from dashboard import colours
from dashboard.answers import ONLY
from dashboard.chart import Chart, Series, Table
from dashboard.figures import Figures, Share, Side
from dashboard.models import DAY, HOUR
from dashboard.numbers import Numbers
from dashboard.period import Period, moment, typed

MOST_SERIES = 6
"""Of one chart; the others are one together."""
Column = tuple[str, Sequence[Any], Callable[[Any], str]]
"""Its name, its values of each step, and how one is told."""


class OverTime:
    """What the charts of one reading have in common."""

    def __init__(self, read: Figures) -> None:
        self.numbers = Numbers()
        self._now = read.now
        self._before = read.before

    @property
    def period(self) -> Period:
        return self._now.period

    def drawn(self, charts: Sequence[Chart]) -> dict[str, Any]:
        """What the script draws."""
        times = {"labels": self._labels, "links": self._links[""]}
        return {"times": times, "charts": [chart.drawn() for chart in charts]}

    @cached_property
    def _starts(self) -> list[int]:
        return list(self.period.starts)

    @cached_property
    def _labels(self) -> list[str]:
        return time_labels(self.period)

    @cached_property
    def _links(self) -> dict[str, list[str]]:
        """From each step to its answers, by what is asked for of them."""
        address = reverse("dashboard-answers")
        ends = [typed(slot) for slot in range(self.period.start, self.period.end + 1, self.period.step)]
        links = [f"{address}?from={since}&to={until}" for since, until in pairwise(ends)]
        return {"": links, **{only: [f"{link}&only={only}" for link in links] for only in ONLY}}

    def _slots(self) -> list[Share]:
        return [self._now.by_slot[slot] for slot in self._starts]

    def _rates(self, side: Side, now: float) -> list[float | None]:
        return [
            side.by_slot[slot].answers / side.period.minutes(slot, now) if slot < now else None
            for slot in side.period.starts
        ]

    def _part(self, count: float, slot: int) -> float | None:
        answers = self._now.by_slot[slot].answers
        return 100 * count / answers if answers else None

    def _target(self, name: str, value: float) -> Series:
        return Series(name, [value] * len(self._starts), "target")

    def _most(self, counts: Mapping[tuple[int, str], float]) -> list[str]:
        sums: Counter[str] = Counter()
        for (_slot, name), count in counts.items():
            sums[name] += count  # type: ignore[assignment]
        return [name for name, _ in sums.most_common()]

    def _by_name(
        self,
        counts: Mapping[tuple[int, str], float],
        names: Sequence[str],
        colour: Callable[[str], int],
    ) -> Iterable[Series]:
        """The counts of each of `names` in every step; of many the last ones together."""
        alone = _alone(names)
        for name in alone:
            values = [counts.get((slot, name), 0) for slot in self._starts]
            yield Series(name, values, colour=colour(name))
        if rest := names[len(alone) :]:
            values = [sum(counts.get((slot, name), 0) for name in rest) for slot in self._starts]
            yield Series(_("others"), values, colour=colours.OTHERS)

    def _parts(self, series: Iterable[Series]) -> list[Series]:
        """Counts as parts of all answers of their step."""
        return [
            replace(
                one, values=[self._part(v or 0, s) for s, v in zip(self._starts, one.values, strict=True)]
            )
            for one in series
        ]

    def _over_time(
        self,
        key: str,
        title: str,
        series: Sequence[Series],
        text: Callable[[Any], str],
        *,
        kind: str = "line",
        more: Sequence[Column] = (),
        only: str = "",
        empty: str = "",
        **values: Any,
    ) -> Chart:
        links = self._links[only]
        own: list[Column] = [(one.name, one.values, text) for one in series if one.role != "target"]
        return Chart(
            key,
            title,
            kind,
            self._labels,
            series,
            self._table([*own, *more], links),
            links=links,
            empty=empty or _("Nobody has asked anything in this time."),
            is_timed=True,
            only=f"&only={only}" if only else "",
            **values,
        )

    def _table(self, columns: Sequence[Column], links: Sequence[str]) -> Table:
        """The newest first, as everybody looks for it."""
        head = [_("Time (UTC)"), *(name for name, _, _ in columns)]
        rows = [
            [label, *(say(cells[at]) for _, cells, say in columns)] for at, label in enumerate(self._labels)
        ]
        raw = [
            [moment(slot).isoformat(), *(cells[at] for _, cells, _ in columns)]
            for at, slot in enumerate(self._starts)
        ]
        return Table(head, rows[::-1], raw, links[::-1])

    def _percent_text(self, value: float | None) -> str:
        return self.numbers.percent(None if value is None else value / 100, 2)

    def _money_text(self, value: float | None) -> str:
        return self.numbers.money(None if value is None else round(value * 1e6))


def _alone(names: Sequence[str]) -> Sequence[str]:
    """Those of `names` that are shown by themselves."""
    return names if len(names) <= MOST_SERIES else names[: MOST_SERIES - 1]


def time_labels(period: Period) -> list[str]:
    is_long = period.end - period.start > DAY + HOUR
    form = "MONTH_DAY_TIME_FORMAT" if is_long else "TIME_FORMAT"
    if period.step >= DAY:
        form = "MONTH_DAY_FORMAT"
    return [date_format(moment(slot), form) for slot in period.starts]
