"""The numbers above the charts, and what they are compared with."""

from dataclasses import dataclass, field

import pytest

from dashboard.figures import Share
from dashboard.tiles import ENOUGH_TO_COMPARE, tiles


@dataclass
class Side:
    total: Share
    latency: float | None = None

    def overall(self, _measure, _share):
        return self.latency


@dataclass
class Read:
    now: Side
    before: Side = field(default_factory=lambda: Side(Share()))


def changes(now, before):
    told = tiles(Read(Side(Share(**now), 900), Side(Share(**before), 450)))
    return {one["name"]: one["change"].replace("\N{NO-BREAK SPACE}", " ") for one in told}


def test_an_almost_empty_period_is_told_and_not_multiplied():
    told = changes({"answers": 20_000, "errors": 200}, {"answers": ENOUGH_TO_COMPARE - 1, "errors": 1})
    assert told["Answers"] == "19 before"
    assert told["Errors"] == "5.26 % before"
    assert told["Whole answer, p95"] == "450 ms before"

    assert changes({"answers": 20_000}, {"answers": ENOUGH_TO_COMPARE})["Answers"] == "× 1,000"


def test_an_empty_period_is_not_compared_with():
    assert set(changes({"answers": 20_000}, {}).values()) == {""}


@pytest.mark.parametrize(("errors", "told"), [(120, "+0.20 pp"), (100, "0 pp"), (0, "-1.00 pp")])
def test_a_share_is_compared_in_percentage_points_and_says_so(errors, told):
    read = Read(Side(Share(answers=10_000, errors=errors)), Side(Share(answers=10_000, errors=100)))
    tile = next(one for one in tiles(read) if one["name"] == "Errors")
    assert tile["change"].replace("\N{NO-BREAK SPACE}", " ") == told
    assert tile["title"] == "Against the period before, in percentage points"
