"""Slots: how many things somebody may have open at once, over all processes.

A slot is a lease of a few seconds that its holder renews while the thing is open, so what a killed process
had open is free again soon. With Redis the leases are kept there, by the time of Redis. Each process also
remembers its own: this is all there is without REDIS_URL; while Redis is away the process counts these alone;
and a Redis that comes back learns them with the next renewal.
"""

import threading
import time
from collections.abc import Callable, Iterable

from django.conf import settings

from accounts.limits.shared_redis import RedisAway, Script, SharedRedis, shared_redis

LEASE_SECONDS = 15.0
"""How long a slot lives without a renewal; renew about three times as often."""
PREFIX = "llmsite:slots:"

NOW = "local time = redis.call('TIME')\nlocal now = time[1] * 1000 + math.floor(time[2] / 1000)\n"

# A sorted set of members by the time, in milliseconds, at which their leases end.
TAKE = Script(f"""{NOW}
local member, limit, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], member) and redis.call('ZCARD', KEYS[1]) >= limit then
  return {{0}}
end
redis.call('ZADD', KEYS[1], now + lease, member)
redis.call('PEXPIRE', KEYS[1], lease)
return {{1}}
""")

# The lease comes first, then the member of each key. A lease that has ended meanwhile begins anew: the thing
# is still open, so it counts.
RENEW = Script(f"""{NOW}
local lease = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + lease, ARGV[i + 1])
  redis.call('PEXPIRE', key, lease)
end
return {{}}
""")

FREE = Script("return {redis.call('ZREM', KEYS[1], ARGV[1])}")


class Slots:
    """At most so many members hold a slot of a key at once."""

    def __init__(self, redis: SharedRedis | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._lease = int(LEASE_SECONDS * 1000)
        self.local = LocalSlots(clock=clock)

    async def take(self, key: str, member: str, limit: int) -> bool:
        """Whether `member` has a slot of `key` now. One that has a slot already keeps it."""
        try:
            [taken] = await self._run(TAKE, [key], [member, limit, self._lease])
        except RedisAway:
            return self.local.take(key, member, limit)
        if taken:
            self.local.hold(key, member)
        return bool(taken)

    async def renew(self, key_members: Iterable[tuple[str, str]]) -> None:
        """Keep these slots, pairs of key and member, for another lease; one round trip for all."""
        held = list(key_members)
        for key, member in held:
            self.local.hold(key, member)
        self.local.forget_ended()
        if held:
            await self._tell(RENEW, [key for key, _ in held], [self._lease, *(member for _, member in held)])

    async def free(self, key: str, member: str) -> None:
        """Give the slot back; without effect where `member` has none."""
        self.local.free(key, member)
        await self._tell(FREE, [key], [member])

    async def _tell(self, script: Script, keys: list[str], arguments: list[str | int]) -> None:
        try:
            await self._run(script, keys, arguments)
        except RedisAway:
            return  # A slot that Redis was not told of ends with its lease.

    async def _run(self, script: Script, keys: list[str], arguments: list[str | int]) -> list[int]:
        if self._redis is None:
            raise RedisAway
        return await self._redis.run(script, [PREFIX + key for key in keys], arguments)


class LocalSlots:
    """The slots that this process holds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str, member: str, limit: int) -> bool:
        with self._lock:
            self._forget(key)
            others = self._ends.get(key, {}).keys() - {member}
            if len(others) >= limit:
                return False
            self._hold(key, member)
            return True

    def hold(self, key: str, member: str) -> None:
        with self._lock:
            self._hold(key, member)

    def free(self, key: str, member: str) -> None:
        with self._lock:
            self._ends.get(key, {}).pop(member, None)
            self._forget(key)

    def forget_ended(self) -> None:
        with self._lock:
            for key in list(self._ends):
                self._forget(key)

    def clear(self) -> None:
        with self._lock:
            self._ends.clear()

    def __len__(self) -> int:
        return len(self._ends)

    def _hold(self, key: str, member: str) -> None:
        self._ends.setdefault(key, {})[member] = self._clock() + LEASE_SECONDS

    def _forget(self, key: str) -> None:
        now = self._clock()
        live = {member: end for member, end in self._ends.pop(key, {}).items() if end > now}
        if live:
            self._ends[key] = live


slots = Slots(shared_redis if settings.REDIS_URL else None)
