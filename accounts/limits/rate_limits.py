"""Limits that are exact: in any window of a rate's length at most so many, over all processes.

With Redis the windows are kept there. One script looks at all buckets of a call and counts the call in all
of them, or in none where one is full: a refused call costs nothing and pushes no window further. The time is
that of Redis, so the clocks of the machines do not matter. Without REDIS_URL there is one web process, and
the same is kept in its memory.

While Redis is away (`shared_redis`) each process counts by itself, and allows its share of the
limit: the limit divided by WEB_PROCESSES, but at least one. So nothing is ever unlimited, nobody is locked
out, and no error comes out of a limit. docs/decisions/0006-exact-limits.md has the reasons.
"""

from collections.abc import Sequence

from django.conf import settings

from accounts.limits.buckets import Bucket, Hit, Verdict, judge, narrower
from accounts.limits.local import LocalLimits
from accounts.limits.shared_redis import RedisAway, Script, SharedRedis, shared_redis
from accounts.limits.slots import slots
from llmsite.core.metrics import RATE_LIMIT_REJECTED
from llmsite.core.rates import Rate

__all__ = ["Hit", "Rate", "RateLimiter", "Tally", "Verdict", "rate_limiter", "reset"]

PREFIX = "llmsite:limit:"

# A bucket is a list of times in microseconds, the oldest first. A clock that is set back makes a
# window longer for once, never fuller. `%.0f`, because Lua would shorten so long a number to 1.7e+15.
COUNT = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer, full = {}, false
for i, key in ipairs(KEYS) do
  local count, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local oldest = redis.call('LINDEX', key, 0)
  while oldest and now - oldest >= window do
    redis.call('LPOP', key)
    oldest = redis.call('LINDEX', key, 0)
  end
  local size, wait = redis.call('LLEN', key), 0
  if size >= count then
    full = true
    wait = redis.call('LINDEX', key, size - count) + window - now
  end
  answer[#answer + 1] = size
  answer[#answer + 1] = (oldest or now) + window - now
  answer[#answer + 1] = wait
end
if full then
  return answer
end
for i, key in ipairs(KEYS) do
  redis.call('RPUSH', key, string.format('%.0f', now))
  redis.call('PEXPIRE', key, math.ceil(ARGV[2 * i] / 1000))
  answer[3 * i - 2] = answer[3 * i - 2] + 1
end
return answer
""")


class RateLimiter:
    """Counts calls in the buckets they belong to."""

    def __init__(self, redis: SharedRedis | None, *, processes: int = 1) -> None:
        self._redis = redis
        self._processes = processes if redis else 1
        self.local = LocalLimits()

    async def hit(self, *hits: Hit) -> Verdict:
        """Count one call in all of `hits`, or in none; for the event loop. It raises nothing."""
        hits = _distinct(hits)
        if self._redis is None:
            return _judged(hits, self.local.hit(hits))
        try:
            answer = await self._redis.run(COUNT, *_question(hits))
        except RedisAway:
            return self._hit_locally(hits)
        return _judged(hits, _buckets(hits, answer))

    def hit_sync(self, *hits: Hit) -> Verdict:
        """The same for code in threads and commands."""
        hits = _distinct(hits)
        if self._redis is None:
            return _judged(hits, self.local.hit(hits))
        try:
            answer = self._redis.run_sync(COUNT, *_question(hits))
        except RedisAway:
            return self._hit_locally(hits)
        return _judged(hits, _buckets(hits, answer))

    def _hit_locally(self, hits: Sequence[Hit]) -> Verdict:
        shares = [hit._replace(rate=hit.rate.share(self._processes)) for hit in hits]
        return _judged(hits, self.local.hit(shares))


def _judged(hits: Sequence[Hit], buckets: Sequence[Bucket]) -> Verdict:
    verdict = judge(buckets)
    if not verdict.allowed:
        fullest = max(range(len(hits)), key=lambda at: buckets[at].wait)
        # The kind of what was counted, and not whose it is.
        RATE_LIMIT_REJECTED.labels(hits[fullest].key.partition(":")[0]).inc()
    return verdict


def _distinct(hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
    """One hit for each bucket: of several in the same one, the strictest."""
    if len(hits) == 1:
        return hits
    generous_first = sorted(hits, key=lambda hit: -hit.rate.count)
    return tuple({(hit.key, hit.rate.seconds): hit for hit in generous_first}.values())


def _question(hits: Sequence[Hit]) -> tuple[list[str], list[int]]:
    """The script's keys and arguments. The length of the window is part of the key: it is another bucket."""
    keys = [f"{PREFIX}{hit.key}:{hit.rate.seconds:g}" for hit in hits]
    return keys, [number for hit in hits for number in (hit.rate.count, round(hit.rate.seconds * 1e6))]


def _buckets(hits: Sequence[Hit], answer: Sequence[int]) -> list[Bucket]:
    return [
        Bucket(hit.rate, answer[at], answer[at + 1] / 1e6, answer[at + 2] / 1e6)
        for at, hit in zip(range(0, len(answer), 3), hits, strict=True)
    ]


rate_limiter = RateLimiter(shared_redis if settings.REDIS_URL else None, processes=settings.WEB_PROCESSES)


class Tally:
    """What one request was counted in, perhaps in two steps, and what its answer says of that."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None

    async def count(self, *hits: Hit) -> None:
        """Count the request in all of `hits`, or in none. Raises RateLimited."""
        verdict = await rate_limiter.hit(*hits)
        self.verdict = narrower(self.verdict, verdict) if self.verdict else verdict
        verdict.raise_if_refused()

    def headers(self) -> dict[str, str]:
        return self.verdict.headers() if self.verdict else {}


def reset() -> None:
    """Forget what is in memory and close connections that nobody can use any more; for tests."""
    rate_limiter.local.clear()
    slots.local.clear()
    shared_redis.reset()
