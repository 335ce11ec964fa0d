"""The ledger: what is booked, and budgets that hold whoever comes at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from django.utils import timezone

from accounts.keys import create_key
from accounts.ledger import correct, remaining, reserve, settle
from accounts.models import LedgerEntry, Reservation, Spending
from accounts.money import as_money, cost_micro
from accounts.usage import Totals, usage_of
from llmsite.core.errors import BudgetExhausted, BudgetReserved, BudgetTooSmall

PRICES = {"input_price": Decimal("3"), "output_price": Decimal("15")}


def ask(user, *, api_key=None, model="claude", most=(100, 100), **values):
    """A call that is asked for: 1,800 millionths at most. Returns its id."""
    call = uuid4()
    given = {"provider": "anthropic", "input_tokens": 40, **PRICES, **values}
    with transaction.atomic():
        reserve(
            call,
            payer=user,
            api_key=api_key,
            model=model,
            input_tokens_at_most=most[0],
            output_tokens_at_most=most[1],
            **given,
        )
    return call


def give_budget(holder, micro):
    holder.monthly_budget_micro = micro
    holder.save()


def booked(call):
    return [
        (entry.kind, entry.input_tokens, entry.output_tokens, entry.cost_micro, entry.estimated)
        for entry in LedgerEntry.objects.filter(call=call).order_by("pk")
    ]


def add_up():
    """Whether each holder's sums are those of the entries and of the reservations."""
    for row in Spending.objects.all():
        kind, name = row.holder.split(":")
        whose = {"user": "account", "key": "api_key"}[kind]
        entries = LedgerEntry.objects.filter(month=row.month, **{whose: name})
        held = Reservation.objects.filter(month=row.month, **{whose: name})
        sums = (
            entries.aggregate(total=Sum("cost_micro", default=0))["total"],
            held.aggregate(total=Sum("amount_micro", default=0))["total"],
        )
        assert (row.spent_micro, row.reserved_micro) == sums, row
    return True


@pytest.fixture
def at(monkeypatch):
    """Set the site's clock."""

    def set_clock(*moment):
        monkeypatch.setattr(timezone, "now", lambda: datetime(*moment, tzinfo=UTC))

    return set_clock


@pytest.fixture
def key(alice):
    return create_key(alice, "script")[0]


@pytest.mark.parametrize(
    ("tokens", "prices", "micro"),
    [
        ((0, 0), ("3", "15"), 0),
        ((1_000_000, 0), ("3", "15"), 3_000_000),
        ((1, 1), ("3", "15"), 18),
        ((1, 0), ("0.5", "0"), 1),
        ((1, 0), ("0.499999", "0"), 0),
        ((3, 3), ("0.15", "0.6"), 2),
        ((2_000_000_000, 2_000_000_000), ("999999.999999", "999999.999999"), 3_999_999_999_996_000),
    ],
)
def test_a_price_of_a_million_tokens_is_micro_currency_per_token(tokens, prices, micro):
    input_price, output_price = map(Decimal, prices)

    assert micro == cost_micro(
        input_tokens=tokens[0], output_tokens=tokens[1], input_price=input_price, output_price=output_price
    )


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "0"), (1, "0.000001"), (1234, "0.001234"), (1_500_000, "1.5"), (10**8, "100"), (-30, "-0.00003")],
)
def test_money_is_a_plain_decimal(micro, text):
    assert as_money(micro) == text


@pytest.mark.django_db
class TestOneCall:
    def test_the_most_is_set_aside_and_what_it_took_is_booked(self, alice):
        call = ask(alice)
        assert remaining(alice).reserved_micro == 1800

        settle(call, input_tokens=10, output_tokens=2, estimated=False)

        assert booked(call) == [("call", 10, 2, 60, False)]
        assert (remaining(alice).spent_micro, remaining(alice).reserved_micro) == (60, 0)
        assert not Reservation.objects.exists()

    def test_it_is_booked_once_whoever_comes_again(self, alice):
        call = ask(alice)
        settle(call, input_tokens=10, output_tokens=2, estimated=False)

        assert settle(call, input_tokens=99, output_tokens=99, estimated=False) is None
        assert settle(call, estimated=True) is None

        assert booked(call) == [("call", 10, 2, 60, False)]

    def test_a_dead_ones_prompt_counts_as_when_it_was_asked(self, alice):
        call = ask(alice)

        settle(call, estimated=True)

        assert booked(call) == [("call", 40, 0, 120, True)]

    def test_one_that_was_taken_for_dead_is_corrected_by_its_own_end(self, alice):
        call = ask(alice)
        settle(call, estimated=True)

        settle(call, input_tokens=30, output_tokens=4, estimated=False)

        assert booked(call) == [("call", 40, 0, 120, True), ("correction", -10, 4, 30, False)]
        assert remaining(alice).spent_micro == 150

    def test_prices_are_those_of_the_moment_it_was_asked(self, alice):
        call = ask(alice, input_price=Decimal(1), output_price=Decimal(2))

        settle(call, input_tokens=10, output_tokens=10, estimated=True)
        correct(call, input_tokens=20, output_tokens=20)

        assert [entry[3] for entry in booked(call)] == [30, 30]

    def test_the_truth_is_booked_even_where_it_is_more_than_was_reserved(self, alice):
        give_budget(alice, 1800)
        call = ask(alice)

        settle(call, input_tokens=1000, output_tokens=0, estimated=False)

        assert remaining(alice).spent_micro == 3000
        assert remaining(alice).left_micro == 0


@pytest.mark.django_db
class TestCorrections:
    def test_a_later_report_is_booked_as_the_difference_once(self, alice):
        call = ask(alice)
        settle(call, input_tokens=10, output_tokens=2, estimated=True)

        assert correct(call, input_tokens=8, output_tokens=3)
        assert not correct(call, input_tokens=8, output_tokens=3)
        assert not correct(call, input_tokens=9, output_tokens=9)

        assert booked(call) == [("call", 10, 2, 60, True), ("correction", -2, 1, 9, False)]
        assert remaining(alice).spent_micro == 69
        assert add_up()

    def test_what_the_provider_reported_stays(self, alice):
        call = ask(alice)
        settle(call, input_tokens=10, output_tokens=2, estimated=False)

        assert not correct(call, input_tokens=8, output_tokens=3)

        assert len(booked(call)) == 1

    def test_a_right_estimate_is_confirmed(self, alice):
        call = ask(alice)
        settle(call, input_tokens=10, output_tokens=2, estimated=True)

        assert correct(call, input_tokens=10, output_tokens=2)

        assert booked(call)[-1] == ("correction", 0, 0, 0, False)
        assert not usage_of(alice.pseudonym).total.has_estimates

    def test_a_better_estimate_leaves_the_last_word_to_the_provider(self, alice):
        call = ask(alice)
        settle(call, estimated=True)

        settle(call, input_tokens=40, output_tokens=5, estimated=True)
        settle(call, input_tokens=40, output_tokens=5, estimated=True)
        assert correct(call, input_tokens=39, output_tokens=6)

        assert [entry[1:3] for entry in booked(call)] == [(40, 0), (0, 5), (-1, 1)]
        assert remaining(alice).spent_micro == 39 * 3 + 6 * 15

    def test_an_unknown_call_is_none(self):
        assert not correct(uuid4(), input_tokens=1, output_tokens=1)

    def test_the_database_keeps_a_second_last_word_out(self, alice):
        call = ask(alice)
        entry = settle(call, input_tokens=1, output_tokens=1, estimated=False)

        with pytest.raises(IntegrityError, match=r"final_once|ledgerentry\.call"), transaction.atomic():
            LedgerEntry.objects.create(
                **entry.terms(), call=call, kind="correction", input_tokens=0, output_tokens=0, cost_micro=0
            )


@pytest.mark.django_db
class TestBudgets:
    def test_one_bears_exactly_what_it_says(self, alice):
        give_budget(alice, 2 * 1800)
        ask(alice)
        ask(alice)

        with pytest.raises(BudgetExhausted):
            ask(alice)
        with pytest.raises(BudgetExhausted):
            ask(alice, most=(1, 0))

        assert Reservation.objects.count() == 2
        assert add_up()

    def test_one_that_is_a_millionth_short_bears_nothing(self, alice):
        give_budget(alice, 1799)

        with pytest.raises(BudgetExhausted):
            ask(alice)

        assert not Reservation.objects.exists()
        assert not Spending.objects.exclude(reserved_micro=0).exists()

    def test_what_a_call_did_not_take_is_free_again(self, alice):
        give_budget(alice, 1800)
        settle(ask(alice), input_tokens=0, output_tokens=0, estimated=False)

        ask(alice)

        with pytest.raises(BudgetExhausted):
            ask(alice)

    def test_a_key_has_one_of_its_own_beside_that_of_its_owner(self, alice, key):
        give_budget(key, 1800)
        give_budget(alice, 3 * 1800)
        ask(alice, api_key=key)

        with pytest.raises(BudgetExhausted):
            ask(alice, api_key=key)
        ask(alice)
        ask(alice)
        with pytest.raises(BudgetExhausted):
            ask(alice)

        assert remaining(key).left_micro == 0
        assert add_up()

    def test_a_key_without_one_spends_its_owners(self, alice, key):
        give_budget(alice, 1800)
        settle(ask(alice, api_key=key), input_tokens=100, output_tokens=100, estimated=False)

        with pytest.raises(BudgetExhausted):
            ask(alice, api_key=key)

        assert remaining(key).spent_micro == remaining(alice).spent_micro == 1800

    def test_one_that_is_set_in_mid_month_knows_what_was_spent(self, alice):
        settle(ask(alice), input_tokens=100, output_tokens=100, estimated=False)
        assert remaining(alice).left_micro is None

        give_budget(alice, 1800)

        assert remaining(alice).left_micro == 0
        with pytest.raises(BudgetExhausted):
            ask(alice)

    def test_a_free_call_needs_none(self, alice, django_assert_num_queries):
        give_budget(alice, 0)
        free = {"input_price": Decimal(0), "output_price": Decimal(0)}

        with django_assert_num_queries(1 + 2):  # `ask` opens a savepoint, and closes it.
            call = ask(alice, **free)
        with django_assert_num_queries(3):
            settle(call, input_tokens=10, output_tokens=2, estimated=False)

        assert booked(call) == [("call", 10, 2, 0, False)]
        assert not Spending.objects.exists()

    def test_a_month_starts_anew_and_the_refusal_says_when(self, alice, at):
        give_budget(alice, 1800)
        at(2026, 12, 31, 23, 59, 0)
        settle(ask(alice), input_tokens=10, output_tokens=2, estimated=False)
        with pytest.raises(BudgetExhausted) as refused:
            ask(alice)
        assert refused.value.retry_after == 60

        at(2027, 1, 1)
        settle(ask(alice), input_tokens=10, output_tokens=2, estimated=False)

        with pytest.raises(BudgetExhausted) as refused:
            ask(alice)
        assert refused.value.retry_after == 31 * 86_400

    def test_a_refusal_says_what_stands_in_the_way(self, alice):
        give_budget(alice, 1800)
        call = ask(alice)
        with pytest.raises(BudgetReserved) as refused:
            ask(alice)
        assert refused.value.retry_after < 60

        settle(call, input_tokens=0, output_tokens=0, estimated=False)
        settle(ask(alice), input_tokens=0, output_tokens=0, estimated=False)

        give_budget(alice, 1799)
        with pytest.raises(BudgetTooSmall) as refused:
            ask(alice)
        assert refused.value.retry_after is None

    def test_a_call_belongs_to_the_month_in_which_it_was_asked(self, alice, at):
        at(2026, 2, 28, 23, 59, 59)
        call = ask(alice)
        at(2026, 3, 1, 0, 0, 5)
        settle(call, input_tokens=10, output_tokens=2, estimated=True)
        at(2026, 4, 10)
        correct(call, input_tokens=10, output_tokens=4)

        february = date(2026, 2, 1)
        assert usage_of(alice.pseudonym, month=february).total.cost_micro == 90
        assert remaining(alice, month=february).spent_micro == 90
        assert usage_of(alice.pseudonym).total.calls == 0
        assert Spending.objects.count() == 1


@pytest.mark.django_db
class TestUsage:
    def test_it_is_told_by_model_and_by_key_in_one_query(self, alice, bob, key, django_assert_num_queries):
        settle(ask(alice), input_tokens=10, output_tokens=2, estimated=False)
        settle(ask(alice, api_key=key), input_tokens=20, output_tokens=4, estimated=True)
        corrected = ask(alice, api_key=key, model="opus")
        settle(corrected, input_tokens=1, output_tokens=1, estimated=True)
        correct(corrected, input_tokens=2, output_tokens=2)
        settle(ask(bob), input_tokens=1000, output_tokens=1000, estimated=False)

        with django_assert_num_queries(1):
            usage = usage_of(alice.pseudonym)

        assert usage.total == Totals(calls=3, input_tokens=32, output_tokens=8, cost_micro=216, estimates=1)
        assert usage.total.cost == "0.000216"
        assert {name: totals.calls for name, totals in usage.by_model.items()} == {"claude": 2, "opus": 1}
        assert {name: totals.cost_micro for name, totals in usage.by_key.items()} == {
            "": 60,
            key.public_id: 156,
        }
        assert usage.by_model["claude"].has_estimates
        assert not usage.by_model["opus"].has_estimates

    def test_nothing_used_is_nothing(self, alice):
        usage = usage_of(alice.pseudonym)

        assert usage.total == Totals()
        assert (usage.by_model, usage.by_key) == ({}, {})


def at_once(count, work):
    """Run `work(n)` in that many threads; what each returned, or the exception it raised."""

    def one(number):
        try:
            return work(number)
        except BudgetExhausted as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.flows
class TestAtTheSameMoment:
    def test_a_budget_for_five_calls_admits_five_of_sixteen(self, alice):
        give_budget(alice, 5 * 1800)

        results = at_once(16, lambda number: ask(alice))

        assert len([result for result in results if isinstance(result, BudgetExhausted)]) == 11
        assert remaining(alice).reserved_micro == 5 * 1800
        assert add_up()

    def test_a_call_is_booked_by_one_of_those_who_end_it(self, alice):
        call = ask(alice)

        results = at_once(8, lambda number: settle(call, input_tokens=10, output_tokens=2, estimated=False))

        assert len([result for result in results if result is not None]) == 1
        assert booked(call) == [("call", 10, 2, 60, False)]
        assert add_up()

    def test_a_correction_is_booked_once(self, alice):
        call = ask(alice)
        settle(call, estimated=True)

        results = at_once(8, lambda number: correct(call, input_tokens=10, output_tokens=2))

        assert sorted(results) == [False] * 7 + [True]
        assert remaining(alice).spent_micro == 60
        assert add_up()
