"""Another model answers a call that is reserved: its prices are booked, and budgets hold all the same."""

from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import transaction

from accounts.ledger import remaining, settle, switch
from accounts.models import LedgerEntry, Reservation
from accounts.tests.test_ledger import add_up, ask, give_budget, key  # noqa: F401 - a fixture
from llmsite.core.errors import BudgetExhausted, BudgetTooSmall

CHEAP = {"input_price": Decimal("1"), "output_price": Decimal("2")}
DEAR = {"input_price": Decimal("10"), "output_price": Decimal("30")}


def to(call, user, prices, **values):
    """Let `backup` of `openai` answer: at most 100 tokens in, 100 out, as `ask` reserves."""
    given = {"input_tokens_at_most": 100, "output_tokens_at_most": 100, **values}
    with transaction.atomic():
        switch(call, payer=user, model="backup", provider="openai", **prices, **given)


def terms_of(row):
    return row.model, row.provider, row.input_price, row.output_price


@pytest.mark.django_db
class TestSwitch:
    def test_the_one_who_answers_is_booked_at_its_prices(self, alice):
        call = ask(alice)
        to(call, alice, CHEAP)
        settle(call, input_tokens=10, output_tokens=5, estimated=False)

        [entry] = LedgerEntry.objects.filter(call=call)
        assert terms_of(entry) == ("backup", "openai", Decimal(1), Decimal(2))
        assert entry.cost_micro == 20
        assert (remaining(alice).spent_micro, remaining(alice).reserved_micro) == (20, 0)
        assert add_up()

    def test_what_is_set_aside_does_not_shrink(self, alice):
        call = ask(alice)
        to(call, alice, CHEAP)

        assert Reservation.objects.get(call=call).amount_micro == 1800
        assert remaining(alice).reserved_micro == 1800
        assert add_up()

    def test_it_grows_with_a_dearer_one(self, alice, key):  # noqa: F811
        call = ask(alice, api_key=key)
        to(call, alice, DEAR, api_key=key)

        assert Reservation.objects.get(call=call).amount_micro == 4000
        assert remaining(alice).reserved_micro == remaining(key).reserved_micro == 4000
        assert add_up()

    def test_a_free_call_can_become_one_that_costs(self, alice):
        call = ask(alice, input_price=Decimal(0), output_price=Decimal(0))
        to(call, alice, CHEAP)
        settle(call, input_tokens=10, output_tokens=5, estimated=False)

        assert remaining(alice).spent_micro == 20
        assert add_up()

    def test_a_budget_that_does_not_bear_the_dearer_one_refuses_and_nothing_changes(self, alice):
        call = ask(alice)
        give_budget(alice, 3999)

        with pytest.raises(BudgetExhausted):
            to(call, alice, DEAR)

        assert terms_of(Reservation.objects.get(call=call))[:2] == ("claude", "anthropic")
        assert Reservation.objects.get(call=call).amount_micro == 1800
        assert remaining(alice).reserved_micro == 1800
        assert add_up()
        give_budget(alice, 4000)
        to(call, alice, DEAR)
        assert remaining(alice).left_micro == 0

    def test_a_keys_budget_gives_nothing_of_the_persons_away(self, alice, key):  # noqa: F811
        call = ask(alice, api_key=key)
        give_budget(key, 1800)

        with pytest.raises(BudgetTooSmall):
            to(call, alice, DEAR, api_key=key)

        assert remaining(alice).reserved_micro == remaining(key).reserved_micro == 1800
        assert add_up()

    def test_a_call_that_is_booked_already_keeps_its_entry(self, alice):
        call = ask(alice)
        settle(call, input_tokens=10, output_tokens=5, estimated=True)
        to(call, alice, DEAR)

        [entry] = LedgerEntry.objects.filter(call=call)
        assert terms_of(entry)[:2] == ("claude", "anthropic")
        assert remaining(alice).reserved_micro == 0
        assert add_up()

    def test_a_call_that_nobody_knows_is_none(self, alice):
        to(uuid4(), alice, DEAR)

        assert remaining(alice).reserved_micro == 0
        assert not Reservation.objects.exists()
