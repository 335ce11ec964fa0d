"""The numbers of a period are of its answers alone, counted or not, and all of one moment."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.ledger import correct
from dashboard import figures, roller
from dashboard.models import DAY, LATENCY
from dashboard.period import period_of, preset, typed
from dashboard.tests.making import make_answer
from dashboard.tests.test_roller import book
from inference.models import Generation

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("is_counted", [False, True], ids=["not yet counted", "counted"])
def test_a_period_has_nothing_of_what_was_before_and_after(alice, is_counted):
    now = timezone.now()
    noon = int(now.timestamp()) // DAY * DAY - 20 * DAY + DAY // 2
    query = {"from": typed(noon), "to": typed(noon + 3600)}
    period = period_of(query, now=now, minutes_since=roller.minutes_since())
    assert (period.start, period.end, period.step) == (noon, noon + 3600, 3600)
    # The latencies of what is in neither period are others.
    moments = {-2 * DAY: 60_000, -3605: 60_000, -1800: 400, 1800: 800, 3600: 60_000, 2 * DAY: 60_000}
    for second, latency in moments.items():
        make_answer(alice, ago=now.timestamp() - noon - second, latency_ms=latency)
    if is_counted:
        roller.roll_up()

    found = figures.read(period)
    assert (found.now.total.answers, found.before.total.answers) == (1, 1)
    assert found.now.overall(LATENCY, 1.0) == pytest.approx(800, rel=0.04)
    assert found.before.overall(LATENCY, 1.0) == pytest.approx(400, rel=0.04)
    # Those of its whole day.
    assert [share.answers for share in found.accounts.values()] == [4]


def test_a_cost_that_comes_while_it_is_read_is_in_all_numbers_or_in_none(priced, alice, monkeypatch):
    answer = make_answer(alice)
    book(answer, tokens=5)
    roller.roll_up()
    correct(answer.pk, input_tokens=900, output_tokens=900, estimated=False)
    add_models = figures._add_models

    def once_after_the_cost(read):
        monkeypatch.setattr(figures, "_add_models", add_models)
        Generation.objects.show_booked(answer.pk)
        add_models(read)

    monkeypatch.setattr(figures, "_add_models", once_after_the_cost)
    found = figures.read(preset("1h", timezone.now() + timedelta(seconds=1)))
    assert [share.cost_micro for share in found.now.by_model.values()] == [found.now.total.cost_micro]
    assert found.now.total.input_tokens == 900
