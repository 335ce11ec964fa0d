"""Answers as a busy site would have them, to look at and to measure with. The same seed gives the same ones.

A day has its rhythm and a week its end, the site grows, models differ in how fast and how dear they are, the
cache warms up, and one provider was away for an hour a week ago. Pure: it gives values, and writes nothing.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID

from accounts.money import cost_micro
from inference.models import Status
from llmsite.core.ids import first_id_at

HOUR = 3600
OUTAGE = (7 * 24, 7 * 24 - 1)
"""Hours before the end between which one provider did not answer."""


@dataclass(frozen=True, slots=True)
class DemoModel:
    """`first_ms` and `token_ms` are medians."""

    alias: str
    provider: str
    provider_model: str
    weight: float
    first_ms: float
    token_ms: float
    error_rate: float
    input_price: Decimal
    output_price: Decimal


MODELS = (
    DemoModel("smollm2-135m-instruct", "local", "smollm2", 0.35, 90, 18, 0.002, Decimal(0), Decimal(0)),
    DemoModel("demo-claude-sonnet", "anthropic", "claude", 0.30, 620, 14, 0.006, Decimal(3), Decimal(15)),
    DemoModel("demo-gpt-mini", "openai", "gpt-mini", 0.25, 480, 9, 0.005, Decimal("0.15"), Decimal("0.60")),
    DemoModel("demo-gpt-large", "openai", "gpt-large", 0.10, 900, 22, 0.009, Decimal(5), Decimal(20)),
)
AWAY = "openai"
ERRORS = ("provider_timeout", "provider_busy", "provider_rate_limited", "provider_unavailable")
LEVELS = (("l1", 0.55), ("l2", 0.3), ("l3", 0.12), ("verified", 0.03))
USERS = 60
"""Some ask much more than others."""


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """`user` is a number below USERS; `by_key` says that a program of theirs asked."""

    pk: UUID
    moment: datetime
    user: int
    by_key: bool
    rating: int
    """0 where nobody has said anything."""
    values: dict[str, Any]
    """Of its row, by the names of fields."""


def answers(count: int, *, days: int, seed: int, until: datetime) -> Iterator[DemoAnswer]:
    """`count` answers, the oldest first."""
    chance = random.Random(seed)  # noqa: S311 - nothing here is a secret
    people = [1 / (at + 2) ** 0.9 for at in range(USERS)]
    weights = list(accumulate(people))
    for second in _moments(count, days=days, until=until, chance=chance):
        yield _answer(second, until, days, weights, chance)


def _moments(count: int, *, days: int, until: datetime, chance: random.Random) -> Iterator[float]:
    """Seconds since 1970, as many as wanted, spread over the hours as people are awake."""
    end, hours = until.timestamp(), days * 24
    weights = [_weight(until - timedelta(hours=hours - at), at / hours) for at in range(hours)]
    whole, given, seen = sum(weights), 0, 0.0
    for at, weight in enumerate(weights):
        seen += weight
        some = round(count * seen / whole) - given
        given += some
        start = end - (hours - at) * HOUR
        yield from sorted(start + chance.random() * HOUR for _ in range(some))


def _weight(hour: datetime, progress: float) -> float:
    """How much is asked in an hour, against others."""
    by_day = 0.4 if hour.weekday() >= 5 else 1.0
    by_hour = 0.08 + max(0.0, math.sin((hour.hour - 6) / 15 * math.pi)) if 6 <= hour.hour <= 21 else 0.08
    return by_day * by_hour * (0.5 + progress)


def _answer(
    second: float, until: datetime, days: int, people: list[float], chance: random.Random
) -> DemoAnswer:
    moment = datetime.fromtimestamp(round(second, 3), UTC)
    model = chance.choices(MODELS, [one.weight for one in MODELS])[0]
    user = chance.choices(range(USERS), cum_weights=people)[0]
    hours_left = (until - moment).total_seconds() / HOUR
    is_away = model.provider == AWAY and OUTAGE[1] <= hours_left < OUTAGE[0]
    warm = 1 - hours_left / (days * 24)
    if chance.random() < (0.9 if is_away else model.error_rate):
        values = _failed(model, chance)
    elif chance.random() < 0.12 + 0.25 * warm:
        values = _cached(chance)
    else:
        values = _written(model, chance)
    values |= {"model_alias": model.alias, "provider": model.provider}
    values["ended_at"] = moment + timedelta(milliseconds=values["latency_ms"] or 0)
    is_rated = values["status"] == Status.FINISHED and chance.random() < 0.03
    rating = (1 if chance.random() < 0.7 + 0.2 * warm else -1) if is_rated else 0
    pk = UUID(int=first_id_at(moment).int | chance.getrandbits(60))
    return DemoAnswer(pk, moment, user, user % 3 == 0 and chance.random() < 0.8, rating, values)


def _tokens(chance: random.Random) -> dict[str, int]:
    return {
        "input_tokens": 20 + int(chance.lognormvariate(5.3, 0.9)),
        "output_tokens": 5 + int(chance.lognormvariate(4.6, 0.8)),
    }


def _written(model: DemoModel, chance: random.Random) -> dict[str, Any]:
    tokens = _tokens(chance)
    first = model.first_ms * chance.lognormvariate(0, 0.45)
    whole = first + model.token_ms * tokens["output_tokens"] * chance.lognormvariate(0, 0.25)
    status, reason = (Status.STOPPED, "cancelled") if chance.random() < 0.01 else (Status.FINISHED, "stop")
    from_documents = chance.random()
    grounding: dict[str, Any] = {"grounding": "", "confidence": None}
    if from_documents < 0.15:
        kind = "nothing" if from_documents < 0.02 else "passages"
        grounding = {"grounding": kind, "confidence": 0.1 if kind == "nothing" else 0.8}
    return {
        **tokens,
        **grounding,
        "status": status,
        "error_code": "",
        "finish_reason": reason,
        "cache": "",
        "latency_ms": round(whole),
        "time_to_first_token_ms": round(first),
        "cost_micro": cost_micro(**tokens, input_price=model.input_price, output_price=model.output_price),
    }


def _cached(chance: random.Random) -> dict[str, Any]:
    latency = max(1, round(chance.lognormvariate(1.2, 0.6)))
    level = chance.choices([name for name, _ in LEVELS], [weight for _, weight in LEVELS])[0]
    return {
        **_tokens(chance),
        "grounding": "",
        "confidence": None,
        "status": Status.FINISHED,
        "error_code": "",
        "finish_reason": "stop",
        "cache": level,
        "latency_ms": latency,
        "time_to_first_token_ms": latency,
        "cost_micro": 0,
    }


def _failed(model: DemoModel, chance: random.Random) -> dict[str, Any]:
    was_begun = chance.random() < 0.1
    return {
        "input_tokens": 0,
        "output_tokens": 0,
        "grounding": "",
        "confidence": None,
        "status": Status.CUT if was_begun else Status.FAILED,
        "error_code": chance.choices(ERRORS, (5, 3, 2, 2))[0],
        "finish_reason": "",
        "cache": "",
        "latency_ms": round(chance.uniform(500, 30_000)),
        "time_to_first_token_ms": round(model.first_ms) if was_begun else None,
        "cost_micro": 0,
    }
