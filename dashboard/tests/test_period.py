"""Which time an address asks for, and what somebody is told who does not get all of it."""

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.models import DAY, HOUR, MINUTE
from dashboard.period import MOST_POINTS, period_of, typed

NOW = datetime(2026, 11, 22, 12, 7, tzinfo=UTC)
KEPT = int((NOW - timedelta(days=3)).timestamp())


def between(since, until):
    query = {"from": typed(since), "to": typed(until)}
    return period_of(query, now=NOW, minutes_since=KEPT)


@pytest.mark.parametrize("beyond", [0, MINUTE])
@pytest.mark.parametrize("length", [MINUTE, 7 * MINUTE, 3 * HOUR, 13 * HOUR + MINUTE, 35 * HOUR])
def test_a_period_of_minutes_lies_with_the_one_before_it_where_minutes_are_kept(length, beyond):
    since = KEPT + length - beyond
    period = between(since, since + length)
    assert period.base != MINUTE or period.before.start >= KEPT
    assert period.start <= since < since + length <= period.end


def test_minutes_are_shown_where_they_are_kept():
    since = KEPT + DAY
    assert between(since, since + HOUR).step == MINUTE


@pytest.mark.parametrize("minutes", [0, 1])
def test_the_longest_period_has_the_most_points_and_the_last_ones(minutes):
    until = int(NOW.timestamp()) // DAY * DAY
    period = between(until - 900 * DAY, until - minutes * MINUTE)
    assert (period.step, len(period.starts), period.end) == (DAY, MOST_POINTS, until)


CUT = "reaches further than what can be shown: 400 days at once"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "is_cut"),
    [
        ("from=2026-01-01T00:00&to=2026-02-01T00:00", False),
        ("from=2026-01-01T00:07&to=2026-01-01T09:59", False),
        ("from=0001-01-01T00:00&to=2026-02-01T00:00", True),
        ("from=2020-01-01T00:00&to=2026-02-01T00:00", True),
        ("from=2026-01-01T00:00&to=9999-01-01T00:00", True),
        ("range=90d", False),
        ("from=x&to=y", False),
    ],
)
def test_a_time_that_is_cut_is_told(client, query, is_cut):
    page = client.get(f"/dashboard/?{query}").content.decode()
    assert (CUT in page) == is_cut
