"""How near an answer is to the right one, and how sure a share of cases is. Pure numbers from texts."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
_Z = 1.959964
"""Of the normal distribution: 95 % lie within so many standard deviations."""


def folded(text: str) -> str:
    """The text without what makes no other answer of it: Unicode forms, case, spaces around and between."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def exact_match(answer: str, expected: str) -> bool:
    return folded(answer) == folded(expected)


def rouge_l(answer: str, expected: str) -> float:
    """ROUGE-L: the F1 of the longest common subsequence of words, between 0 and 1.

    Two texts without any word are equal (1.0) where their characters are.
    """
    given, wanted = _WORD.findall(folded(answer)), _WORD.findall(folded(expected))
    if not given or not wanted:
        return float(exact_match(answer, expected))
    common = _common(given, wanted)
    return 2 * common / (len(given) + len(wanted))


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, in the memory of one row."""
    row = [0] * (len(second) + 1)
    for word in first:
        left_above = 0
        for at, other in enumerate(second, 1):
            above = row[at]
            row[at] = left_above + 1 if word == other else max(above, row[at - 1])
            left_above = above
    return row[-1]


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with the interval in which the true one lies in 95 of 100 such measurements."""

    rate: float
    low: float
    high: float


def wilson(successes: float, count: int) -> Interval:
    """Wilson's score interval of `successes` out of `count`, of which there is at least one."""
    rate = successes / count
    spread = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
    middle, scale = rate + _Z**2 / (2 * count), 1 + _Z**2 / count
    return Interval(rate, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))
