"""Which time is shown, and in which steps: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dashboard.models import DAY, HOUR, MINUTE

PRESETS = {
    # name: (seconds that a point stands for, how many points)
    "1h": (MINUTE, 60),
    "6h": (5 * MINUTE, 72),
    "24h": (15 * MINUTE, 96),
    "7d": (HOUR, 168),
    "30d": (DAY, 30),
    "90d": (DAY, 90),
}
USUAL = "24h"
MOST_POINTS = MOST_DAYS = 400
# The steps of a period that somebody types: the first with which it has no more points than a screen.
_STEPS = ((MINUTE, 120), (5 * MINUTE, 144), (15 * MINUTE, 144), (HOUR, 336), (DAY, MOST_POINTS))
_FORM = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` to `end` (excluded) in steps, in seconds since 1970. One that was typed has no `name`."""

    start: int
    end: int
    step: int
    name: str = ""

    @property
    def base(self) -> int:
        """The rows that its points are made of."""
        return DAY if self.step >= DAY else HOUR if self.step >= HOUR else MINUTE

    @property
    def starts(self) -> range:
        return range(self.start, self.end, self.step)

    @property
    def before(self) -> "Period":
        """The one of the same length right before."""
        return replace(self, start=self.start - (self.end - self.start), end=self.start)

    def slot_of(self, second: int) -> int:
        return second - (second - self.start) % self.step

    def minutes(self, slot: int, now: float) -> float:
        """How many minutes of a step have passed."""
        return max(1.0, min(slot + self.step, now) - slot) / 60


def period_of(query: Mapping[str, str], *, now: datetime, minutes_since: int) -> Period:
    """What an address asks for: `from` and `to` (UTC), else `range`; what it cannot read is the usual one."""
    since, until = second_of(query.get("from"), now=now), second_of(query.get("to"), now=now)
    if since is not None and until is not None and since < until:
        return _typed(since, until, minutes_since)
    name = query.get("range", USUAL)
    return preset(name if name in PRESETS else USUAL, now)


def is_misread(query: Mapping[str, str], period: Period) -> bool:
    """Whether somebody typed times that `period` is not of."""
    return bool(period.name and (query.get("from") or query.get("to")))


def is_cut(query: Mapping[str, str], period: Period) -> bool:
    """Whether the times that `period` was typed as reach beyond it."""
    since, until = _read(query.get("from")), _read(query.get("to"))
    if period.name or since is None or until is None:
        return False
    return since < period.start or period.end < until


def preset(name: str, now: datetime) -> Period:
    step, points = PRESETS[name]
    second = int(now.timestamp())
    end = second - second % step + step
    return Period(end - points * step, end, step, name)


def _typed(since: int, until: int, minutes_since: int) -> Period:
    length = max(until - since, MINUTE)
    fitting = (step for step, points in _STEPS if length <= step * points)
    period = _in_steps(since, until, next(fitting, DAY))
    if period.base == MINUTE and period.before.start < minutes_since:
        return _in_steps(since, until, HOUR)
    return period


def _in_steps(since: int, until: int, step: int) -> Period:
    """Whole steps around these moments, the last `MOST_POINTS` of them."""
    end = until + -until % step
    return Period(max(since - since % step, end - MOST_POINTS * step), end, step)


def second_of(typed: str | None, *, now: datetime) -> int | None:
    """What stands in a field for a moment (UTC), from 1970 to tomorrow; None for what is none."""
    second = _read(typed)
    return None if second is None else max(0, min(second, int(now.timestamp()) + DAY))


def _read(typed: str | None) -> int | None:
    try:
        return int(datetime.strptime((typed or "")[:16], _FORM).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def typed(second: int) -> str:
    """As a field for a moment takes it."""
    return moment(second).strftime(_FORM)


def moment(second: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
