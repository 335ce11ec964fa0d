"""What a spreadsheet is given that opens the tables of the dashboard."""

import pytest

from dashboard.tests.making import make_answer
from dashboard.tests.test_pages import rows_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_name_of_a_column_is_a_formula(client, alice, start):
    make_answer(alice, provider=f"{start}HYPERLINK(1)", cost_micro=5)
    _title, head, *_rows = rows_of(client.get("/dashboard/csv/?range=1h&chart=cost"))
    assert head[1] == f"'{start}HYPERLINK(1)"
