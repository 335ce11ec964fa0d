"""What calls took, summed up from the ledger's entries: of one call, or of an account in a month."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, Sum

from accounts.models import LedgerEntry
from accounts.models.ledger import EntryKind
from accounts.money import as_money, this_month


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The sums of some calls, corrections included. `estimates` of the calls are our own counts as yet."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro: int = 0
    estimates: int = 0

    @property
    def has_estimates(self) -> bool:
        return self.estimates > 0

    @property
    def cost(self) -> str:
        """The cost as a decimal string in CURRENCY."""
        return as_money(self.cost_micro)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_micro=self.cost_micro + other.cost_micro,
            estimates=self.estimates + other.estimates,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an account used in a month. Keys go by their public id; "" stands for calls without one."""

    month: date
    total: Totals
    by_model: dict[str, Totals]
    by_key: dict[str, Totals]


_SUMS = {
    "calls": Count("pk", filter=Q(kind=EntryKind.CALL)),
    # Each call that is no estimate any more has exactly one such entry.
    "finals": Count("pk", filter=Q(estimated=False)),
    "sum_input_tokens": Sum("input_tokens", default=0),
    "sum_output_tokens": Sum("output_tokens", default=0),
    "sum_cost_micro": Sum("cost_micro", default=0),
}


def totals_of(call: UUID) -> Totals:
    """What one call took, corrections included."""
    return _totals(LedgerEntry.objects.filter(call=call).aggregate(**_SUMS))


def usage_of(account: UUID, *, month: date | None = None) -> Usage:
    """What the account of this pseudonym used in `month` (its first day), or in this one: one query."""
    month = month or this_month()
    entries = LedgerEntry.objects.filter(account=account, month=month)
    rows = entries.order_by().values("model", "api_key").annotate(**_SUMS)
    parts = [(row["model"], row["api_key"], _totals(row)) for row in rows]
    return Usage(
        month=month,
        total=sum((totals for _, _, totals in parts), Totals()),
        by_model=_by_name((model, totals) for model, _, totals in parts),
        by_key=_by_name((key, totals) for _, key, totals in parts),
    )


def _by_name(parts: Iterable[tuple[str, Totals]]) -> dict[str, Totals]:
    sums: dict[str, Totals] = {}
    for name, totals in sorted(parts, key=lambda part: part[0]):
        sums[name] = sums.get(name, Totals()) + totals
    return sums


def _totals(row: Mapping[str, Any]) -> Totals:
    return Totals(
        calls=row["calls"],
        input_tokens=row["sum_input_tokens"],
        output_tokens=row["sum_output_tokens"],
        cost_micro=row["sum_cost_micro"],
        estimates=row["calls"] - row["finals"],
    )
