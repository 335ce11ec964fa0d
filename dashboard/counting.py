"""From rows of answers to what is added to the sums. Pure: rows come in as tuples, and nothing is written."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from accounts.money import cost_micro
from dashboard.histogram import Bins, bin_of
from dashboard.models import DAY, FIRST_TOKEN, LATENCY, STEPS
from inference.models import Grounding, Status

FIELDS = (
    "created_at",
    "model_alias",
    "provider",
    "status",
    "error_code",
    "cache",
    "input_tokens",
    "output_tokens",
    "cost_micro",
    "latency_ms",
    "time_to_first_token_ms",
    "grounding",
    "user__pseudonym",
    "api_key__public_id",
)

Prices = Mapping[str, tuple[Decimal, Decimal]]
"""By the name of a model: of a million input tokens, and of a million output tokens."""
AnswerKey = tuple[int, int, str, str, str, str, str]
LatencyKey = tuple[int, int, str, bool]
AccountKey = tuple[int, UUID, str]


class Counted(NamedTuple):
    """The values of FIELDS, of one answer that has ended."""

    created_at: datetime
    model: str
    provider: str
    status: str
    error_code: str
    cache: str
    input_tokens: int | None
    output_tokens: int | None
    cost_micro: int
    latency_ms: int | None
    first_token_ms: int | None
    grounding: str
    account: UUID
    api_key: str | None

    @property
    def second(self) -> int:
        return int(self.created_at.timestamp())

    def sums(self, prices: Prices) -> tuple[int, ...]:
        """As `AnswerSum.SUMS`. Tokens from the cache are told, and cost nothing."""
        read, written = self.input_tokens or 0, self.output_tokens or 0
        unanswered = int(self.grounding == Grounding.NOTHING)
        return 1, read, written, self.cost_micro, self.saved(prices), unanswered

    def saved(self, prices: Prices) -> int:
        """What the model would have cost, at its prices of now, had the cache not had the answer."""
        if not self.cache or self.model not in prices:
            return 0
        input_price, output_price = prices[self.model]
        return cost_micro(
            input_tokens=self.input_tokens or 0,
            output_tokens=self.output_tokens or 0,
            input_price=input_price,
            output_price=output_price,
        )


class Tally:
    """What some answers add to the sums of the given steps, those of minutes from `minutes_since` on."""

    def __init__(self, prices: Prices, *, steps: Sequence[int] = STEPS, minutes_since: int = 0) -> None:
        self.answers: defaultdict[AnswerKey, list[int]] = defaultdict(lambda: [0] * 6)
        self.latencies: defaultdict[LatencyKey, Bins] = defaultdict(Counter)
        self.accounts: defaultdict[AccountKey, list[int]] = defaultdict(lambda: [0] * 5)
        self._prices = prices
        self._steps = steps
        self._minutes_since = minutes_since

    def add(self, rows: Iterable[Counted], *, sign: int = 1) -> "Tally":
        """Count `rows`; with `sign` -1 take them away."""
        for row in rows:
            self._add(row, sign)
        return self

    def _add(self, row: Counted, sign: int) -> None:
        second, sums = row.second, row.sums(self._prices)
        kind = (row.model, row.provider, row.status, row.error_code, row.cache)
        for step in self._steps:
            if step == STEPS[0] and second < self._minutes_since:
                continue
            start = second - second % step
            _add_to(self.answers[(step, start, *kind)], sums, sign)
            for measure, value in _measured(row):
                self.latencies[step, start, measure, bool(row.cache)][bin_of(value)] += sign
        account = (second - second % DAY, row.account, row.api_key or "")
        tokens = (0, 0) if row.cache else sums[1:3]
        _add_to(self.accounts[account], (1, *tokens, *sums[3:5]), sign)


def _measured(row: Counted) -> Iterable[tuple[str, int]]:
    """Latencies are those of whole answers; the first piece counts of all that had one."""
    if row.latency_ms is not None and row.status == Status.FINISHED:
        yield LATENCY, row.latency_ms
    if row.first_token_ms is not None:
        yield FIRST_TOKEN, row.first_token_ms


def _add_to(sums: list[int], values: Sequence[int], sign: int) -> None:
    for at, value in enumerate(values):
        sums[at] += sign * value
