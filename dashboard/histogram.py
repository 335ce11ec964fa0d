"""Percentiles out of counts: bins whose bounds grow by a constant factor, so that the error is known.

A whole number of milliseconds n ≥ 1 is in bin ceil(log(n) / log(FACTOR)), which is told as a value that is at
most `ERROR` of n away from any n in it. 0 is in a bin of its own. Sums of bins are exact, so percentiles of a
day out of hours are those out of the answers themselves. Pure functions; nothing here knows a table.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

ERROR = 0.04
"""The largest relative error of a percentile."""
FACTOR = (1 + ERROR) / (1 - ERROR)
ZERO = -1
MOST = math.ceil(math.log(86_400_000) / math.log(FACTOR))
"""The last bin: nothing takes longer than a day."""

_STEP = math.log(FACTOR)

Bins = Counter[int]


def bin_of(milliseconds: int) -> int:
    if milliseconds <= 0:
        return ZERO
    # No bound but 1 is a whole number, so it is no matter that a logarithm is rounded.
    return min(math.ceil(math.log(milliseconds) / _STEP), MOST)


def value_of(number: int) -> float:
    """What a bin is told as, in milliseconds."""
    return 0.0 if number == ZERO else 2 * FACTOR**number / (FACTOR + 1)


def merged(parts: Iterable[Mapping[int, int]]) -> Bins:
    bins: Bins = Counter()
    for part in parts:
        bins.update(part)
    return bins


def percentile(bins: Mapping[int, int], share: float) -> float | None:
    """The value, in milliseconds, that `share` of the answers do not exceed; None without any.

    It is that of the answer with the rank ceil(share × count), told to within `ERROR`.
    """
    count = sum(bins.values())
    if not count:
        return None
    rank, seen = max(1, math.ceil(share * count - 1e-9)), 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= rank:
            return value_of(number)
    raise AssertionError("the last bin has all")


def packed(bins: Mapping[int, int]) -> dict[str, int]:
    """As it is stored: without what is zero."""
    return {str(number): count for number, count in sorted(bins.items()) if count}


def unpacked(stored: Mapping[str, int]) -> Bins:
    return Counter({int(number): count for number, count in stored.items()})
