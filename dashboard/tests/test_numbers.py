"""Numbers as they are shown."""

import pytest

from dashboard.numbers import Numbers


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (112, 100, "+12 %"),
        (50, 100, "-50 %"),
        (100, 100, "0 %"),
        (1_001, 1_000, "0 %"),
        (999, 1_000, "0 %"),
        (21_611, 13, "× 1,662"),
        (5, 0, ""),
        (5, None, ""),
        (None, 5, ""),
    ],
)
def test_growth_is_told_so_that_it_can_be_read(now, before, told):
    assert Numbers().growth(now, before).replace("\N{NO-BREAK SPACE}", " ") == told


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (0.012, 0.010, "+0.2 pp"),
        (0.010, 0.012, "-0.2 pp"),
        (0.0101, 0.0100, "0 pp"),
        (0.0100, 0.0101, "0 pp"),
        (0.01, 0.0, "+1.0 pp"),
        (None, 0.01, ""),
        (0.01, None, ""),
    ],
)
def test_a_share_changes_by_points(now, before, told):
    assert Numbers().points(now, before).replace("\N{NO-BREAK SPACE}", " ") == told
