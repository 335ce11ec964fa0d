"""The numbers of all processes in a few words: for `GET /api/metrics`, and for the log at the end."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from math import ceil
from typing import TypedDict

import structlog
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.samples import Sample

from inference.models import Generation, Status
from llmsite.core.ids import first_id_at
from llmsite.core.metrics import (
    CACHE_REQUESTS,
    COST,
    FIRST_TOKEN_SECONDS,
    GENERATION_SECONDS,
    GENERATIONS,
    TOKENS,
)
from llmsite.core.shared_values import all_values

log = structlog.get_logger("llmsite.metrics")

ERRORS = frozenset({Status.FAILED, Status.CUT, Status.INTERRUPTED})

Buckets = Sequence[tuple[float, float]]
"""Upper ends, and how many values are below them: as Prometheus has them, the last one infinite."""


class Percentiles(TypedDict):
    p50: float | None
    p95: float | None
    p99: float | None


class Levels(TypedDict):
    verified: int
    l1: int
    l2: int
    l3: int


class Tokens(TypedDict):
    input: int
    output: int


class Summary(TypedDict):
    """Seconds, and counts since the processes of this machine began."""

    total_requests: int
    cache_hits: int
    cache_misses: int
    cache_hit_rate: float
    total_latency: float
    avg_latency: float
    errors: int
    latency: Percentiles
    time_to_first_token: Percentiles
    levels: Levels
    outcomes: dict[str, int]
    tokens: Tokens
    cost: str


class Told(Summary):
    """And how many questions came in the last minute, to all machines."""

    requests_per_minute: int


def summarize(metrics: Iterable[Metric]) -> Summary:
    """Counted from `metrics`, which are those of `llmsite.core.metrics`."""
    samples = [sample for metric in metrics for sample in metric.samples]
    levels = _sums(samples, f"{CACHE_REQUESTS._name}_total", "level", result="hit")
    misses = sum(_sums(samples, f"{CACHE_REQUESTS._name}_total", "level", result="miss").values())
    outcomes = _sums(samples, f"{GENERATIONS._name}_total", "outcome")
    tokens = _sums(samples, f"{TOKENS._name}_total", "type")
    total, hits = sum(outcomes.values()), sum(levels.values())
    seconds = sum(sample.value for sample in samples if sample.name == f"{GENERATION_SECONDS._name}_sum")
    cost = sum(sample.value for sample in samples if sample.name == f"{COST._name}_total")
    return {
        "total_requests": total,
        "cache_hits": hits,
        "cache_misses": misses,
        "cache_hit_rate": round(hits / (hits + misses), 4) if hits + misses else 0.0,
        "total_latency": round(seconds, 3),
        "avg_latency": round(seconds / total, 4) if total else 0.0,
        "errors": sum(count for outcome, count in outcomes.items() if outcome in ERRORS),
        "latency": _percentiles(samples, GENERATION_SECONDS._name),
        "time_to_first_token": _percentiles(samples, FIRST_TOKEN_SECONDS._name),
        "levels": {
            "verified": levels["verified"],
            "l1": levels["l1"],
            "l2": levels["l2"],
            "l3": levels["l3"],
        },
        "outcomes": dict(outcomes),
        "tokens": {"input": tokens["input"], "output": tokens["output"]},
        "cost": f"{Decimal(cost):.6f}",
    }


def told() -> Told:
    """What `GET /api/metrics` tells."""
    return {**summarize(all_values()), "requests_per_minute": _asked_in_the_last_minute()}


def log_summary() -> None:
    """The last line of a process that stops."""
    log.info("metrics_summary", **summarize(all_values()))


def _asked_in_the_last_minute() -> int:
    since = timezone.now() - timedelta(minutes=1)
    # By the id, which has an index and begins with the time.
    return Generation.objects.filter(pk__gte=first_id_at(since), created_at__gte=since).count()


def _sums(samples: Iterable[Sample], name: str, label: str, **labels: str) -> Counter[str]:
    """By the values of one label, of the samples that have these others."""
    sums: Counter[str] = Counter()
    for sample in samples:
        if sample.name == name and labels.items() <= sample.labels.items():
            sums[sample.labels[label]] += int(sample.value)
    return sums


def _percentiles(samples: Iterable[Sample], name: str) -> Percentiles:
    below: defaultdict[float, float] = defaultdict(float)
    for sample in samples:
        if sample.name == f"{name}_bucket":
            below[float(sample.labels["le"])] += sample.value
    buckets = sorted(below.items())
    total = sum(sample.value for sample in samples if sample.name == f"{name}_sum")
    return {
        "p50": quantile(buckets, 0.5, total),
        "p95": quantile(buckets, 0.95, total),
        "p99": quantile(buckets, 0.99, total),
    }


def quantile(buckets: Buckets, share: float, total: float) -> float | None:
    """As Prometheus's histogram_quantile, values lying evenly within a bucket, but never more than `total`,
    the sum of all values, leaves for it. None without any."""
    if not buckets or not buckets[-1][1]:
        return None
    rank, start, before = share * buckets[-1][1], 0.0, 0.0
    for end, count in buckets:
        if count >= rank:
            if end == float("inf"):
                return start
            even = (end - start) * (rank - before) / (count - before)
            # So many values of this bucket are the percentile or more, and share what the starts leave.
            as_large = count - ceil(rank) + 1
            return round(start + min(even, _above_the_starts(buckets, total) / as_large), 6)
        start, before = end, count
    raise AssertionError("the last bucket has all")


def _above_the_starts(buckets: Buckets, total: float) -> float:
    """What is left of `total` where each value takes the start of its bucket."""
    start, before = 0.0, 0.0
    for end, count in buckets:
        total -= start * (count - before)
        start, before = end, count
    # Other processes go on counting meanwhile, so the sum may be older than the counts.
    return max(total, 0.0)
