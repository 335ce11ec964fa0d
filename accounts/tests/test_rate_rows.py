"""The rate limit in a row: what every door reads at every request, so the row itself is always one."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.keys import create_key
from accounts.models import ApiKey, User
from llmsite.core.rates import Rate

BAD = ["many", "0/m", "-1/m", "07/m", "1/w", "1.5/m", "5 / m", "٣/m", "20/m\n", "\n20/m", "20/m, 3/s", " "]


@pytest.fixture(params=[User, ApiKey])
def row(request, alice):
    return alice if request.param is User else create_key(alice, "laptop")[0]


@pytest.mark.parametrize("text", BAD)
def test_the_database_takes_no_rate_that_is_none(text, row):
    rows = type(row).objects.filter(pk=row.pk)

    with pytest.raises(IntegrityError, match="_rate"), transaction.atomic():
        rows.update(rate_limit=text)

    assert rows.get().rate_limit == ""


@pytest.mark.parametrize("text", ["", "1/s", "20/m", "1000/h", "99999999999999999/d"])
def test_what_it_takes_is_read_by_every_door(text, row):
    type(row).objects.filter(pk=row.pk).update(rate_limit=text)

    row.refresh_from_db()
    row.full_clean()
    assert not text or str(Rate.parse(row.rate_limit)) == text


def test_a_form_is_told_which_field_is_wrong(row):
    row.rate_limit = "many"

    with pytest.raises(ValidationError) as refusal:
        row.full_clean()

    assert "rate_limit" in refusal.value.message_dict
