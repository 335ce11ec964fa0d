"""What is counted, and what follows from it; wherever the counting is done.

Tuples with names: every request makes several, and a frozen dataclass takes three times as long to make.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from llmsite.core.errors import RateLimited
from llmsite.core.rates import Rate


class Hit(NamedTuple):
    """One bucket that a request counts in; `key` is, for example, `address:10.0.0.1` or `user:7`."""

    key: str
    rate: Rate


class Bucket(NamedTuple):
    """A bucket as it was found: `size` requests in its window."""

    rate: Rate
    size: int
    reset: float
    """Seconds until the oldest counted request falls out of the window."""
    wait: float
    """Seconds until there is room for one more; 0 where there is."""

    def counted(self) -> "Bucket":
        return Bucket(self.rate, self.size + 1, self.reset, self.wait)

    @property
    def remaining(self) -> int:
        return max(0, self.rate.count - self.size)


class Verdict(NamedTuple):
    """What a caller is told: the numbers of the narrowest bucket, the one with the fewest remaining."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    """Until the oldest counted request of that bucket falls out of its window."""
    retry_after: float
    """Seconds after which the same call is allowed if nobody else asks; 0 where it is allowed now."""

    def headers(self) -> dict[str, str]:
        """What an answer says of the limits."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(self.reset_seconds)),
        }

    def raise_if_refused(self) -> None:
        if not self.allowed:
            raise RateLimited(retry_after=self.retry_after)


def judge(buckets: Sequence[Bucket]) -> Verdict:
    """The verdict on a call that was counted in all of `buckets`, or in none where one of them is full."""
    narrowest = min(buckets, key=lambda bucket: (-bucket.wait, bucket.remaining))
    return Verdict(
        allowed=not narrowest.wait,
        limit=narrowest.rate.count,
        remaining=narrowest.remaining,
        reset_seconds=narrowest.reset,
        retry_after=narrowest.wait,
    )


def narrower(first: Verdict, second: Verdict) -> Verdict:
    """Of two verdicts on one request the one that says more: a refusal, or the fewer requests left."""
    return min(first, second, key=lambda verdict: (verdict.allowed, verdict.remaining))
