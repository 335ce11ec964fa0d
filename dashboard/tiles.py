"""The numbers of the whole period, above the charts, each with how it has changed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.utils.translation import gettext as _

from dashboard import targets
from dashboard.figures import Figures
from dashboard.models import FIRST_TOKEN, LATENCY
from dashboard.numbers import Numbers

ENOUGH_TO_COMPARE = 20
"""Answers of the period before: a few more or less of so many say something, of seven they do not."""


@dataclass(frozen=True, slots=True)
class _Tile:
    name: str
    now: float | None
    before: float | None
    told: Callable[[Any], str]
    target: float | None = None
    share_digits: int | None = None
    """The decimals of a share, whose change is told in percentage points; None for all else."""

    def change(self, numbers: Numbers, answers_before: int) -> str:
        if not answers_before or self.now is None or self.before is None:
            return ""
        if answers_before < ENOUGH_TO_COMPARE:
            return _("%(value)s before") % {"value": self.told(self.before)}
        if self.share_digits is not None:
            return numbers.points(self.now, self.before, self.share_digits)
        return numbers.growth(self.now, self.before)


def tiles(read: Figures) -> list[dict[str, Any]]:
    """For the page: `name`, `value`, `change` with its `title`, and `is_bad` where it misses its target."""
    numbers = Numbers()
    return [
        {
            "name": one.name,
            "value": one.told(one.now),
            "change": one.change(numbers, read.before.total.answers),
            "title": _title(one),
            "is_bad": one.target is not None and (one.now or 0) > one.target,
        }
        for one in _tiles(read, numbers)
    ]


def _title(tile: _Tile) -> str:
    if tile.share_digits is not None:
        return _("Against the period before, in percentage points")
    return _("Against the period before")


def _tiles(read: Figures, numbers: Numbers) -> list[_Tile]:
    now, before = read.now.total, read.before.total
    latency = read.now.overall(LATENCY, 0.95), read.before.overall(LATENCY, 0.95)
    first = read.now.overall(FIRST_TOKEN, 0.95), read.before.overall(FIRST_TOKEN, 0.95)
    tokens = now.input_tokens + now.output_tokens, before.input_tokens + before.output_tokens
    rates = partial(numbers.percent, digits=2)
    return [
        _Tile(_("Answers"), now.answers, before.answers, numbers.fixed),
        _Tile(_("Errors"), now.error_rate, before.error_rate, rates, targets.ERROR_RATE, share_digits=2),
        _Tile(_("Whole answer, p95"), *latency, numbers.duration, targets.LATENCY_P95_MS),
        _Tile(_("First token, p95"), *first, numbers.duration, targets.FIRST_TOKEN_P95_MS),
        _Tile(_("From the cache"), now.hit_rate, before.hit_rate, numbers.percent, share_digits=1),
        _Tile(_("Saved by it"), now.saved_micro, before.saved_micro, numbers.money),
        _Tile(_("Cost"), now.cost_micro, before.cost_micro, numbers.money),
        _Tile(_("Tokens"), *tokens, numbers.fixed),
    ]
