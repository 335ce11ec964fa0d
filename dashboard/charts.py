"""The charts of answers, out of the figures of a period."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from accounts.models import ApiKey, User
from dashboard import figures, targets
from dashboard.answers import ONLY
from dashboard.chart import Chart, Series, Table
from dashboard.figures import Figures, Share, Side
from dashboard.histogram import ERROR
from dashboard.models import DAY, FIRST_TOKEN, HOUR, LATENCY
from dashboard.numbers import Numbers
from dashboard.period import USUAL, Period, moment, preset, typed

MOST_SERIES = 6
"""Of one chart; the others are one together."""
MOST_ROWS = 25
MOST_BARS = 10
PERCENTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
LEVELS = ("verified", "l1", "l2", "l3")


def main_charts(*, range_name: str = USUAL) -> list[dict[str, Any]]:
    """Requests, latency, errors and cost of the last day, for `dashboard/_main_charts.html`.

    Each is as `shown` gives it, and the first has what is drawn of all of them, too ("drawn").
    """
    now = timezone.now()
    made = Charts(figures.read(preset(range_name, now)), now.timestamp())
    four = [made.requests(), made.latency(), made.errors(), made.cost()]
    first, *others = map(shown, four)
    return [{**first, "drawn": made.drawn(four)}, *others]


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


class Charts:
    """All charts of one reading. `compares` draws the period before beside the requests, errors and cost."""

    def __init__(self, read: Figures, now: float, *, compares: bool = False) -> None:
        self._now = read.now
        self._before = read.before
        self._accounts = read.accounts
        self._seconds = now
        self._compares = compares
        self._address = reverse("dashboard-answers")
        self.numbers = Numbers()

    @property
    def period(self) -> Period:
        return self._now.period

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
            self.models(),
            self.users(),
            self.keys(),
            self.unanswered(),
        ]

    def drawn(self, charts: Sequence[Chart]) -> dict[str, Any]:
        """What the script draws."""
        times = {"labels": self._labels, "links": self._links[""]}
        return {"times": times, "charts": [chart.drawn() for chart in charts]}

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
        series = [
            Series(name, [self._part(count, slot) for slot, count in zip(self._starts, counts, strict=True)])
            for name, counts in self._by_name(self._now.by_error, kinds)
        ]
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
        series = [
            Series(
                _level_name(name),
                [self._part(count, slot) for slot, count in zip(self._starts, counts, strict=True)],
            )
            for name, counts in self._by_name(self._now.by_level, levels)
        ]
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
        series = [Series(name, values) for name, values in self._by_name(costs, self._most(costs))]
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
        series = [Series(name, values) for name, values in self._by_name(counts, self._most(counts))]
        return self._over_time(
            "tokens",
            _("Tokens by provider"),
            series,
            self.numbers.fixed,
            kind="stack",
            unit=_("tokens read and written"),
            more=[
                (_("Read"), [share.input_tokens for share in self._slots()], self.numbers.fixed),
                (_("Written"), [share.output_tokens for share in self._slots()], self.numbers.fixed),
            ],
            note=_("Answers from the cache are not in it: no model worked on them."),
        )

    def models(self) -> Chart:
        rows = [((model, provider), share) for (model, provider), share in self._now.by_model.items()]
        links = lambda name: self._answers_link(model=name[0], provider=name[1])  # noqa: E731
        return self._shares("models", _("Models"), [_("Model"), _("Provider")], rows, links)

    def users(self) -> Chart:
        by_user: dict[UUID, Share] = {}
        for (account, _key), share in self._accounts.items():
            by_user.setdefault(account, Share()).add(share)
        ranked = sorted(by_user.items(), key=lambda item: _weight(item[1]), reverse=True)[:MOST_ROWS]
        people = {
            user.pseudonym: user
            for user in User.objects.filter(pseudonym__in=[account for account, _ in ranked]).only(
                "pseudonym", "username"
            )
        }
        rows = [((self._user_name(account, people),), share) for account, share in ranked]
        return self._shares("users", _("People"), [_("User")], rows, note=self._days_note(), cuts=False)

    def keys(self) -> Chart:
        by_key: dict[str, Share] = {}
        for (_account, key), share in self._accounts.items():
            if key:
                by_key.setdefault(key, Share()).add(share)
        ranked = sorted(by_key.items(), key=lambda item: _weight(item[1]), reverse=True)[:MOST_ROWS]
        names = {
            key.public_id: (key.name, key.user.username)
            for key in ApiKey.objects.filter(public_id__in=[key for key, _ in ranked]).select_related("user")
        }
        rows = [((*names.get(key, (key, "")),), share) for key, share in ranked]
        head = [_("API key"), _("User")]
        empty = _("No program has asked with a key in this time.")
        return self._shares(
            "keys", _("API keys"), head, rows, note=self._days_note(), empty=empty, cuts=False
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

    # --- What they are made of -----------------------------------------------------------------------

    @cached_property
    def _starts(self) -> list[int]:
        return list(self.period.starts)

    @cached_property
    def _labels(self) -> list[str]:
        return time_labels(self.period)

    @cached_property
    def _links(self) -> dict[str, list[str]]:
        """From each step to its answers, by what is asked for of them."""
        ends = [typed(slot) for slot in range(self.period.start, self.period.end + 1, self.period.step)]
        links = [f"{self._address}?from={since}&to={until}" for since, until in pairwise(ends)]
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
        self, counts: Mapping[tuple[int, str], float], names: Sequence[str]
    ) -> Iterable[tuple[str, list[float]]]:
        """The counts of each of `names` in every step; of many the last ones together."""
        alone = names if len(names) <= MOST_SERIES else names[: MOST_SERIES - 1]
        for name in alone:
            yield name, [counts.get((slot, name), 0) for slot in self._starts]
        if rest := names[len(alone) :]:
            values = [sum(counts.get((slot, name), 0) for name in rest) for slot in self._starts]
            yield _("others"), values

    def _over_time(
        self,
        key: str,
        title: str,
        series: Sequence[Series],
        text: Callable[[Any], str],
        *,
        kind: str = "line",
        more: Sequence[tuple[str, Sequence[Any], Callable[[Any], str]]] = (),
        only: str = "",
        empty: str = "",
        **values: Any,
    ) -> Chart:
        links = self._links[only]
        columns = [(one.name, one.values, text) for one in series if one.role != "target"]
        columns += [(name, cells, own_text) for name, cells, own_text in more]
        head = [_("Time (UTC)"), *(name for name, _, _ in columns)]
        rows = [
            [label, *(say(cells[at]) for _, cells, say in columns)] for at, label in enumerate(self._labels)
        ]
        raw = [
            [moment(slot).isoformat(), *(cells[at] for _, cells, _ in columns)]
            for at, slot in enumerate(self._starts)
        ]
        # The newest first, as everybody looks for it.
        table = Table(head, rows[::-1], raw, links[::-1])
        return Chart(
            key,
            title,
            kind,
            self._labels,
            series,
            table,
            links=links,
            empty=empty or _("Nobody has asked anything in this time."),
            is_timed=True,
            only=f"&only={only}" if only else "",
            **values,
        )

    def _shares(
        self,
        key: str,
        title: str,
        names: Sequence[str],
        rows: Sequence[tuple[tuple[str, ...], Share]],
        link: Callable[[tuple[str, ...]], str] | None = None,
        *,
        note: str = "",
        empty: str = "",
        cuts: bool = True,
    ) -> Chart:
        """Who or what took how much: a bar for each, and a row. Where nothing costs, the bars are tokens."""
        ranked = sorted(rows, key=lambda row: _weight(row[1]), reverse=True)[:MOST_ROWS]
        links = [link(name) if link else "" for name, _ in ranked]
        costs = any(share.cost_micro for _, share in ranked)
        values = [
            share.cost_micro / 1e6 if costs else share.input_tokens + share.output_tokens
            for _, share in ranked
        ]
        table = Table(
            [
                *names,
                _("Answers"),
                *([_("Errors")] if cuts else []),
                _("Read"),
                _("Written"),
                _("Cost"),
                _("Saved"),
            ],
            [self._share_texts(name, share, cuts=cuts) for name, share in ranked],
            [_share_cells(name, share, cuts=cuts) for name, share in ranked],
            links,
        )
        return Chart(
            key,
            title,
            "bars",
            [" · ".join(part for part in name if part) for name, _ in ranked[:MOST_BARS]],
            [Series(_("Cost") if costs else _("Tokens"), values[:MOST_BARS])],
            table,
            unit=settings.CURRENCY if costs else _("tokens read and written"),
            note=note,
            links=links[:MOST_BARS],
            empty=empty or _("Nobody has asked anything in this time."),
        )

    def _share_texts(self, name: tuple[str, ...], share: Share, *, cuts: bool) -> list[str]:
        whole = self.numbers.fixed
        return [
            *name,
            whole(share.answers),
            *([self.numbers.percent(share.error_rate)] if cuts else []),
            whole(share.input_tokens),
            whole(share.output_tokens),
            self.numbers.money(share.cost_micro),
            self.numbers.money(share.saved_micro),
        ]

    def _answers_link(self, **only: str) -> str:
        query = {"from": typed(self.period.start), "to": typed(self.period.end), **only}
        return f"{self._address}?{urlencode(query)}"

    def _days_note(self) -> str:
        first, last = figures.days_of(self.period)
        days = {"first": date_format(first, "j M"), "last": date_format(last, "j M")}
        return _("Counted by the day (UTC): %(first)s to %(last)s.") % days

    def _user_name(self, account: UUID, people: Mapping[UUID, User]) -> str:
        return people[account].username if account in people else _("people who have left")

    def _percent_text(self, value: float | None) -> str:
        return self.numbers.percent(None if value is None else value / 100, 2)

    def _money_text(self, value: float | None) -> str:
        return self.numbers.money(None if value is None else round(value * 1e6))


def time_labels(period: Period) -> list[str]:
    form = "j M" if period.step >= DAY else "j M H:i" if period.end - period.start > DAY + HOUR else "H:i"
    return [date_format(moment(slot), form) for slot in period.starts]


def _share_cells(name: tuple[str, ...], share: Share, *, cuts: bool) -> list[Any]:
    cells: list[Any] = [*name, share.answers]
    if cuts:
        cells.append(share.errors)
    return [
        *cells,
        share.input_tokens,
        share.output_tokens,
        share.cost_micro / 1e6,
        share.saved_micro / 1e6,
    ]


def _weight(share: Share) -> tuple[int, int, int]:
    return share.cost_micro, share.input_tokens + share.output_tokens, share.answers


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
