"""The ledger: what every call cost, and budgets that hold.

    reserve (before the call, the most it can cost) → settle (what it took) → correct (when more is known)

A budget is kept by one compare-and-set statement, so it holds over any number of processes. Entries are
only ever added; a month's `Spending` is their sum, kept beside them because a budget asks for it before
every call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.models import ApiKey, LedgerEntry, Reservation, Spending, User
from accounts.models.ledger import EntryKind, Priced
from accounts.money import cost_micro, next_month, this_month
from accounts.usage import totals_of
from llmsite.core.bulk import insert
from llmsite.core.errors import BudgetExhausted, BudgetReserved, BudgetTooSmall
from llmsite.core.metrics import BUDGET_REJECTED

# Part of the caller's transaction where there is one. A savepoint would be two statements more for each call.
_together = transaction.atomic(savepoint=False)


# --- A call: reserve, settle, correct ------------------------------------------------------------


@_together
def reserve(
    call: UUID,
    *,
    payer: User,
    api_key: ApiKey | None = None,
    model: str,
    provider: str,
    input_price: Decimal,
    output_price: Decimal,
    input_tokens: int,
    input_tokens_at_most: int,
    output_tokens_at_most: int,
) -> None:
    """Set aside the most that a call can cost. Its prices are frozen here.

    `input_tokens` is our own count of the prompt, for a call whose process dies. Raises BudgetExhausted, or
    the kind of it that says more, where the month's budget, the person's or the key's, does not bear the
    call; then the whole transaction is to be given up.
    """
    amount = cost_micro(
        input_tokens=input_tokens_at_most,
        output_tokens=output_tokens_at_most,
        input_price=input_price,
        output_price=output_price,
    )
    reservation = Reservation.objects.create(
        call=call,
        account=payer.pseudonym,
        month=this_month(),
        api_key=api_key.public_id if api_key else "",
        model=model,
        provider=provider,
        input_price=input_price,
        output_price=output_price,
        input_tokens=input_tokens,
        amount_micro=amount,
    )
    if amount:
        _set_aside(reservation, amount, payer=payer, api_key=api_key)


def _refusal(holder: str, reservation: Reservation, amount: int, budget: int) -> BudgetExhausted:
    """Why a budget does not bear `amount`, and when it may."""
    BUDGET_REJECTED.inc()
    if amount > budget:
        return BudgetTooSmall()
    row = Spending.objects.filter(holder=holder, month=reservation.month).first()
    if row is not None and row.spent_micro + amount <= budget:
        return BudgetReserved()
    return BudgetExhausted(retry_after=_seconds_until(next_month(reservation.month)))


@_together
def switch(
    call: UUID,
    *,
    payer: User,
    api_key: ApiKey | None = None,
    model: str,
    provider: str,
    input_price: Decimal,
    output_price: Decimal,
    input_tokens_at_most: int,
    output_tokens_at_most: int,
) -> None:
    """Let another model answer a call that is reserved: its prices count from now on.

    What is set aside grows where the other one may cost more; it never shrinks before the end. Raises as
    `reserve` does, and then nothing has changed.
    """
    amount = cost_micro(
        input_tokens=input_tokens_at_most,
        output_tokens=output_tokens_at_most,
        input_price=input_price,
        output_price=output_price,
    )
    reservation = Reservation.objects.select_for_update().filter(call=call).first()
    if reservation is None:
        return  # Another process took the call for dead, and has booked it.
    more = max(0, amount - reservation.amount_micro)
    terms = {
        "model": model,
        "provider": provider,
        "input_price": input_price,
        "output_price": output_price,
        "amount_micro": reservation.amount_micro + more,
    }
    with transaction.atomic():
        Reservation.objects.filter(call=call).update(**terms)
        if more:
            _set_aside(reservation, more, payer=payer, api_key=api_key)


def _set_aside(reservation: Reservation, amount: int, *, payer: User, api_key: ApiKey | None) -> None:
    """Reserve `amount` in every budget that the call counts in. Raises BudgetExhausted, or a kind of it."""
    budgets = [payer.monthly_budget_micro, api_key.monthly_budget_micro if api_key else None]
    for holder, budget in zip(_holders(reservation), budgets, strict=False):
        if not _add(holder, reservation.month, reserved=amount, budget=budget):
            raise _refusal(holder, reservation, amount, budget or 0)


@_together
def settle(
    call: UUID, *, input_tokens: int | None = None, output_tokens: int = 0, estimated: bool
) -> LedgerEntry | None:
    """Book what a call took, and give back what was reserved for it; returns the entry.

    Without `input_tokens` the prompt counts as it was when the call was asked. Where somebody else has
    booked the call already, having taken it for dead, this is a correction, and the answer None.
    """
    reservation = _take_reservation(call)
    if reservation is None:
        if input_tokens is not None:
            correct(call, input_tokens=input_tokens, output_tokens=output_tokens, estimated=estimated)
        return None
    tokens = {
        "input_tokens": reservation.input_tokens if input_tokens is None else input_tokens,
        "output_tokens": output_tokens,
    }
    entry = LedgerEntry.objects.create(
        **reservation.terms(),
        **tokens,
        call=call,
        cost_micro=_cost(reservation, **tokens),
        estimated=estimated,
    )
    _add_to_all(reservation, spent=entry.cost_micro, reserved=-reservation.amount_micro)
    return entry


@_together
def book_free(calls: Sequence[tuple[UUID, datetime, User, ApiKey | None, Any]]) -> None:
    """Book calls that nobody was asked for: which, when, whose, with which key, and which model is named.

    The model has `alias` and `provider`. They count as calls, and cost nothing.
    """
    rows = [
        {
            "call": call,
            "created_at": moment,
            "account": payer.pseudonym,
            "api_key": api_key.public_id if api_key else "",
            "model": model.alias,
            "provider": model.provider,
        }
        for call, moment, payer, api_key, model in calls
    ]
    nothing = dict.fromkeys(("input_price", "output_price", "input_tokens", "output_tokens", "cost_micro"), 0)
    insert(LedgerEntry, rows, common={**nothing, "month": this_month(), "estimated": False})


@_together
def correct(call: UUID, *, input_tokens: int, output_tokens: int, estimated: bool = False) -> bool:
    """Book the difference to what a call really took, at the prices of its first entry.

    False, and nothing booked, for a call that is not in the ledger, that is final already, or where a new
    estimate says nothing new.
    """
    # Two corrections of one call wait for each other here.
    first = LedgerEntry.objects.select_for_update().filter(call=call, kind=EntryKind.CALL).first()
    if first is None:
        return False
    booked = totals_of(call)
    if not booked.has_estimates:
        return False
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    difference = {
        "input_tokens": input_tokens - booked.input_tokens,
        "output_tokens": output_tokens - booked.output_tokens,
        "cost_micro": _cost(first, **tokens) - booked.cost_micro,
    }
    if estimated and not any(difference.values()):
        return False
    LedgerEntry.objects.create(
        **first.terms(), **difference, call=call, kind=EntryKind.CORRECTION, estimated=estimated
    )
    _add_to_all(first, spent=difference["cost_micro"])
    return True


def reserved_before(moment: datetime) -> list[UUID]:
    """The calls that were asked before `moment` and are not booked yet."""
    return list(Reservation.objects.filter(created_at__lt=moment).values_list("call", flat=True))


def _take_reservation(call: UUID) -> Reservation | None:
    """The reservation of a call, for the one who deletes it."""
    rows = Reservation.objects.filter(call=call)
    reservation = rows.first()
    return reservation if reservation is not None and rows.delete()[0] else None


def _cost(row: Priced, *, input_tokens: int, output_tokens: int) -> int:
    return cost_micro(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        input_price=row.input_price,
        output_price=row.output_price,
    )


# --- Budgets -------------------------------------------------------------------------------------


def _holders(row: Priced) -> list[str]:
    """Whose sums a call counts in: the person's, and the key's if one asked. Always in this order."""
    return [_person(row.account), _key(row.api_key)] if row.api_key else [_person(row.account)]


def _person(account: UUID) -> str:
    return f"user:{account}"


def _key(public_id: str) -> str:
    return f"key:{public_id}"


def _add(holder: str, month: date, *, spent: int = 0, reserved: int = 0, budget: int | None = None) -> bool:
    """Change a holder's sums in one statement; False where `budget` does not bear what is reserved.

    Without a budget the sums are kept all the same: one may be set in the middle of a month.
    """
    rows = Spending.objects.filter(holder=holder, month=month)
    if budget is not None:
        rows = rows.filter(spent_micro__lte=budget - reserved - F("reserved_micro"))
    change = {"spent_micro": F("spent_micro") + spent, "reserved_micro": F("reserved_micro") + reserved}
    if rows.update(**change):
        return True
    # The first call of a month, or one of several that all think so; else nothing changes here.
    Spending.objects.bulk_create([Spending(holder=holder, month=month)], ignore_conflicts=True)
    return bool(rows.update(**change))


def _add_to_all(row: Priced, *, spent: int, reserved: int = 0) -> None:
    """Change the sums of everybody in whose budget a call counts; a free one is nobody's."""
    if spent or reserved:
        for holder in _holders(row):
            _add(holder, row.month, spent=spent, reserved=reserved)


def _seconds_until(day: date) -> float:
    return (datetime.combine(day, time(), UTC) - timezone.now()).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Where a budget stands, in millionths. `budget_micro` is None where there is no limit."""

    budget_micro: int | None
    spent_micro: int
    reserved_micro: int

    @property
    def left_micro(self) -> int | None:
        """What new calls may still reserve; None where there is no limit."""
        if self.budget_micro is None:
            return None
        return max(0, self.budget_micro - self.spent_micro - self.reserved_micro)


def remaining(holder: User | ApiKey, *, month: date | None = None) -> Remaining:
    """Where the budget of a person or a key stands in `month`, or in this one."""
    name = _person(holder.pseudonym) if isinstance(holder, User) else _key(holder.public_id)
    row = Spending.objects.filter(holder=name, month=month or this_month()).first()
    return Remaining(
        budget_micro=holder.monthly_budget_micro,
        spent_micro=row.spent_micro if row else 0,
        reserved_micro=row.reserved_micro if row else 0,
    )
