"""The numbers of a period, and of the one before: sums, and what has ended and is in none of them yet.

One query for each kind of sums, whatever the period. Sums and the rest are read one after the other; where
somebody has changed sums in between (`Progress`), all is read again. Of a very long rest the newest answers
are added, and the others are missing until the worker has counted them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, Q, Sum

from dashboard import roller
from dashboard.counting import FIELDS, AnswerKey, Counted, Tally
from dashboard.histogram import Bins, merged, percentile
from dashboard.models import DAY, AccountSum, AnswerSum, LatencySum, Progress
from dashboard.period import Period, moment
from inference.models import Status

ERRORS = frozenset({Status.FAILED, Status.CUT, Status.INTERRUPTED})
MOST_READINGS = 4
"""After so many the last one is shown: it is at most a batch of the worker off."""
MOST_UNCOUNTED = 5_000
"""Answers that a page counts by itself."""
MOST_MISSING = 100_000
"""How far those are counted that are missing; it takes SQLite a few milliseconds."""


@dataclass(slots=True)
class Share:
    """What some answers took. `errors` are those that failed, broke off or were interrupted."""

    answers: int = 0
    errors: int = 0
    hits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro: int = 0
    saved_micro: int = 0
    unanswered: int = 0

    def add(self, other: "Share") -> None:
        self.answers += other.answers
        self.errors += other.errors
        self.hits += other.hits
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_micro += other.cost_micro
        self.saved_micro += other.saved_micro
        self.unanswered += other.unanswered

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.answers if self.answers else None

    @property
    def hit_rate(self) -> float | None:
        return self.hits / self.answers if self.answers else None


def _shares() -> defaultdict[Any, Share]:
    return defaultdict(Share)


@dataclass(slots=True)
class Side:
    """One period: by its steps, by what answered, and how long it took. Tokens are those of models alone."""

    period: Period
    by_slot: defaultdict[int, Share] = field(default_factory=_shares)
    by_error: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    by_level: defaultdict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    by_provider: defaultdict[tuple[int, str], Share] = field(default_factory=_shares)
    by_model: defaultdict[tuple[str, str], Share] = field(default_factory=_shares)
    bins: defaultdict[tuple[int, str], Bins] = field(default_factory=lambda: defaultdict(Counter))
    total: Share = field(default_factory=Share)

    def add_kind(self, slot: int, status: str, error: str, cache: str, share: Share) -> None:
        self.by_slot[slot].add(share)
        self.total.add(share)
        if share.errors:
            self.by_error[slot, error or status] += share.errors
        if share.hits:
            self.by_level[slot, cache] += share.hits

    def add_model(self, slot: int, model: str, provider: str, share: Share) -> None:
        self.by_provider[slot, provider].add(share)
        self.by_model[model, provider].add(share)

    def percentile(self, slot: int, measure: str, share: float) -> float | None:
        return percentile(self.bins.get((slot, measure), {}), share)

    def overall(self, measure: str, share: float) -> float | None:
        return percentile(merged(bins for (_, kind), bins in self.bins.items() if kind == measure), share)


@dataclass(slots=True)
class Figures:
    """A period and the one before it. `accounts` are of whole days: those that the period touches.

    `missing` answers of any time are in no number yet, `MOST_MISSING` standing for as many or more.
    """

    now: Side
    before: Side
    accounts: dict[tuple[UUID, str], Share]
    missing: int = 0

    def side_of(self, second: int) -> Side:
        return self.now if second >= self.now.period.start else self.before


def read(period: Period) -> Figures:
    for _ in range(MOST_READINGS):
        number = _progress()
        figures = _read(period)
        # While many are missing, the worker changes the sums all the time.
        if figures.missing or number == _progress():
            break
    return figures


def _progress() -> int | None:
    return Progress.objects.values_list("number", flat=True).first()


def _read(period: Period) -> Figures:
    figures = Figures(Side(period), Side(period.before), {})
    # First the rest: what is counted meanwhile would be missing in both.
    tally, figures.missing = _rest(period)
    _add_rest(figures, tally)
    _add_kinds(figures)
    _add_models(figures)
    _add_latencies(figures)
    _add_accounts(figures, tally)
    return figures


def _rest(period: Period) -> tuple[Tally, int]:
    """What has ended and is in no sum yet, and how many older answers there are of this kind."""
    rows = roller.to_count().order_by("-pk").values_list(*FIELDS)
    newest = [Counted(*values) for values in rows[: MOST_UNCOUNTED + 1]]
    missing = _missing() if len(newest) > MOST_UNCOUNTED else 0
    tally = Tally(roller.prices(), steps=(period.base,), minutes_since=roller.minutes_since())
    return tally.add(newest[:MOST_UNCOUNTED]), missing


def _missing() -> int:
    """Some may have been counted since they were read, and are missing yet."""
    counted = roller.to_count().order_by("pk").values("pk")[: MOST_UNCOUNTED + MOST_MISSING].count()
    return max(1, counted - MOST_UNCOUNTED)


def _add_rest(figures: Figures, tally: Tally) -> None:
    first, last = figures.before.period.start, figures.now.period.end
    for key, sums in tally.answers.items():
        if first <= key[1] < last:
            _add_answers(figures, key, sums)
    for (_, start, measure, _cached), bins in tally.latencies.items():
        if first <= start < last:
            side = figures.side_of(start)
            side.bins[side.period.slot_of(start), measure].update(bins)


def _add_answers(figures: Figures, key: AnswerKey, sums: Sequence[int]) -> None:
    _, start, model, provider, status, error, cache = key
    side = figures.side_of(start)
    slot = side.period.slot_of(start)
    share = _share(status, cache, *sums)
    side.add_kind(slot, status, error, cache, share)
    side.add_model(slot, model, provider, share)


def _share(
    status: str, cache: str, answers: int, read: int, written: int, cost: int, saved: int, unanswered: int
) -> Share:
    return Share(
        answers=answers,
        errors=answers if status in ERRORS else 0,
        hits=answers if cache else 0,
        input_tokens=0 if cache else read,
        output_tokens=0 if cache else written,
        cost_micro=cost,
        saved_micro=saved,
        unanswered=unanswered,
    )


# --- Out of the database --------------------------------------------------------------------------


def _within(figures: Figures) -> dict[str, int]:
    period = figures.now.period
    return {"step": period.base, "start__gte": figures.before.period.start, "start__lt": period.end}


def _rows(figures: Figures) -> Any:
    """The sums, each with the step that it belongs to. The period before has steps of the same phase."""
    period = figures.now.period
    slot = F("start") - (F("start") - period.before.start) % period.step
    return AnswerSum.objects.filter(**_within(figures)).annotate(slot=slot).order_by()


def _add_kinds(figures: Figures) -> None:
    kinds = _rows(figures).values_list("slot", "status", "error_code", "cache")
    rows: Any = kinds.annotate(*(Sum(name) for name in AnswerSum.SUMS))
    for slot, status, error, cache, *sums in rows:
        figures.side_of(slot).add_kind(slot, status, error, cache, _share(status, cache, *sums))


def _add_models(figures: Figures) -> None:
    asked = Q(cache="")
    rows: Any = _rows(figures).values_list("slot", "model", "provider")
    rows = rows.annotate(
        Sum("answers"),
        failed=Sum("answers", filter=Q(status__in=ERRORS), default=0),
        hits=Sum("answers", filter=~asked, default=0),
        read=Sum("input_tokens", filter=asked, default=0),
        written=Sum("output_tokens", filter=asked, default=0),
        cost=Sum("cost_micro"),
        saved=Sum("saved_micro"),
        unknown=Sum("unanswered"),
    )
    for slot, model, provider, *sums in rows:
        figures.side_of(slot).add_model(slot, model, provider, Share(*sums))


def _add_latencies(figures: Figures) -> None:
    rows = LatencySum.objects.filter(**_within(figures)).values_list("start", "measure", "bins")
    for start, measure, stored in rows:
        side = figures.side_of(start)
        bins = side.bins[side.period.slot_of(start), measure]
        for number, count in stored.items():
            bins[int(number)] += count


def _add_accounts(figures: Figures, tally: Tally) -> None:
    shares: defaultdict[tuple[UUID, str], Share] = _shares()
    first, last = _days(figures.now.period)
    rows = AccountSum.objects.filter(start__gte=first, start__lt=last).order_by()
    for account, key, *sums in rows.values_list("account", "api_key").annotate(
        *(Sum(name) for name in AccountSum.SUMS)
    ):
        shares[account, key].add(_of_account(*sums))
    for (start, account, key), sums in tally.accounts.items():
        if first <= start < last:
            shares[account, key].add(_of_account(*sums))
    figures.accounts = dict(shares)


def _days(period: Period) -> tuple[int, int]:
    return period.start - period.start % DAY, period.end


def _of_account(answers: int, read: int, written: int, cost: int, saved: int) -> Share:
    return Share(answers, 0, 0, read, written, cost, saved)


def days_of(period: Period) -> tuple[datetime, datetime]:
    """The first moment of the days that sums of people are of, and the last day's."""
    first, last = _days(period)
    return moment(first), moment(last - 1)
