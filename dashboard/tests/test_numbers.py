"""Numbers as they are shown."""

import pytest

from dashboard.numbers import Numbers


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (112, 100, "+12 %"),
        (50, 100, "-50 %"),
        (100, 100, "0 %"),
        (21_611, 13, "× 1,662"),
        (5, 0, ""),
        (5, None, ""),
        (None, 5, ""),
    ],
)
def test_a_change_is_told_so_that_it_can_be_read(now, before, told):
    assert Numbers().change(now, before).replace("\N{NO-BREAK SPACE}", " ") == told
