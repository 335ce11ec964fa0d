"""Which colour stands for what: the same one in every chart, and whatever time is shown. Pure.

A colour is its place in the list of `static/js/dashboard/charts.js`.
"""

from collections.abc import Iterable
from zlib import crc32

from inference.providers import BACKENDS

OWN = 5
"""Colours that stand for one name each; the one behind them is that of all others together."""
OTHERS = OWN


def of_provider(name: str) -> int:
    """One that is asked no more, and not known here, may share its colour with another one."""
    known = list(BACKENDS)
    return known.index(name) if name in known[:OWN] else _usual(name)


def of_names(names: Iterable[str]) -> dict[str, int]:
    """Each name's usual colour, or, where another one has that, the next that is free."""
    chosen: dict[str, int] = {}
    for name in sorted(set(names)):
        wanted = [(_usual(name) + further) % OWN for further in range(OWN)]
        free = (colour for colour in wanted if colour not in chosen.values())
        chosen[name] = next(free, OTHERS)
    return chosen


def _usual(name: str) -> int:
    return crc32(name.encode()) % OWN
