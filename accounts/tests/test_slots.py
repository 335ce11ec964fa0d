"""Slots: never more holders than the limit, and none that a dead process keeps."""

import asyncio
import time

import pytest
import redis

from accounts.limits import shared_redis, slots
from accounts.limits.shared_redis import SharedRedis
from accounts.limits.slots import Slots
from accounts.tests.redis_servers import own_redis

KEY = "user:7"


@pytest.fixture(scope="module")
def redis_url():
    with own_redis() as server:
        yield server.url


@pytest.fixture
def stored(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def process(redis_url, stored):
    """Makes what another web process has: slots with connections and a memory of their own."""
    made = []

    def make():
        made.append(SharedRedis(redis_url, timeout=30))
        return Slots(made[-1])

    yield make
    for one in made:
        one.reset()


@pytest.fixture(params=["memory", "redis"])
def some_slots(request):
    return Slots(None) if request.param == "memory" else request.getfixturevalue("process")()


class TestTake:
    async def test_at_most_the_limit_hold_one(self, some_slots):
        taken = await asyncio.gather(*(some_slots.take(KEY, f"socket:{turn}", 10) for turn in range(30)))

        assert sum(taken) == 10

    async def test_a_slot_that_was_given_back_is_free(self, some_slots):
        assert await some_slots.take(KEY, "a", 1)
        assert not await some_slots.take(KEY, "b", 1)
        await some_slots.free(KEY, "a")
        assert await some_slots.take(KEY, "b", 1)

    async def test_giving_back_what_one_has_not_changes_nothing(self, some_slots):
        assert await some_slots.take(KEY, "a", 1)
        await some_slots.free(KEY, "b")
        await some_slots.free("user:8", "a")
        assert not await some_slots.take(KEY, "b", 1)

    async def test_who_has_one_keeps_it(self, some_slots):
        assert await some_slots.take(KEY, "a", 1)
        assert await some_slots.take(KEY, "a", 1)
        await some_slots.free(KEY, "a")
        assert await some_slots.take(KEY, "b", 1)

    async def test_keys_are_counted_apart(self, some_slots):
        assert await some_slots.take("user:7", "a", 1)
        assert await some_slots.take("user:8", "a", 1)

    async def test_to_renew_nothing_is_no_error(self, some_slots):
        await some_slots.renew([])


class TestLease:
    """In memory by a clock of our own, in Redis by short leases."""

    async def test_in_memory_a_slot_lives_as_long_as_it_is_renewed(self):
        now = [0.0]
        held = Slots(None, clock=lambda: now[0])
        await held.take(KEY, "renewed", 2)
        await held.take(KEY, "forgotten", 2)
        now[0] = 14.9
        await held.renew([(KEY, "renewed")])
        assert not await held.take(KEY, "new", 2)
        now[0] = 15.0
        assert await held.take(KEY, "new", 2)
        assert not await held.take(KEY, "newer", 2)

    async def test_in_memory_nothing_stays_of_slots_that_ended(self):
        now = [0.0]
        held = Slots(None, clock=lambda: now[0])
        for turn in range(20):
            await held.take(f"user:{turn}", "socket", 1)
        now[0] = 15.0
        await held.renew([("user:7", "socket")])

        assert len(held.local) == 1

    async def test_in_redis_the_slots_of_a_dead_process_are_free_after_their_lease(
        self, process, stored, monkeypatch
    ):
        living = process()
        monkeypatch.setattr(slots, "LEASE_SECONDS", 0.05)
        dead = process()
        assert await dead.take(KEY, "a", 2)
        assert await living.take(KEY, "living", 2)
        deadline = time.monotonic() + 10
        while not await living.take(KEY, "b", 2):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def test_in_redis_a_renewal_makes_the_lease_longer(self, process, stored, monkeypatch):
        monkeypatch.setattr(slots, "LEASE_SECONDS", 5.0)
        short = process()
        monkeypatch.undo()
        living = process()
        await short.take(KEY, "a", 2)
        await short.take(KEY, "b", 2)
        before = dict(stored.zrange("llmsite:slots:user:7", 0, -1, withscores=True))
        await living.renew([(KEY, "a"), ("user:8", "c")])
        after = dict(stored.zrange("llmsite:slots:user:7", 0, -1, withscores=True))

        assert after[b"a"] - before[b"a"] > 5_000
        assert after[b"b"] == before[b"b"]
        assert 5_000 < stored.pttl("llmsite:slots:user:7") <= 15_000
        assert not await living.take("user:8", "d", 1)


class TestProcesses:
    async def test_all_processes_count_together(self, process):
        one, other = process(), process()
        taken = [await one.take(KEY, f"one:{turn}", 5) for turn in range(3)]
        taken += [await other.take(KEY, f"other:{turn}", 5) for turn in range(3)]

        assert taken == [True] * 5 + [False]

    async def test_while_redis_is_away_a_process_counts_its_own(self, process, monkeypatch):
        monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 3600)
        one = process()
        await one.take(KEY, "before", 2)
        one._redis.outage.failed(ConnectionError("away"))

        assert [await one.take(KEY, f"then:{turn}", 2) for turn in range(3)] == [True, False, False]
        await one.free(KEY, "before")
        await one.renew([(KEY, "then:0")])
        assert await one.take(KEY, "later", 2)

    async def test_a_redis_that_comes_back_learns_of_them(self, process, stored, monkeypatch):
        monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 3600)
        one, other = process(), process()
        one._redis.outage.failed(ConnectionError("away"))
        await one.take(KEY, "a", 1)
        one._redis.outage._until = 0.0
        await one.renew([(KEY, "a")])

        assert not await other.take(KEY, "b", 1)

    async def test_one_round_trip_renews_all(self, process, stored):
        one = process()
        held = [(f"user:{turn}", "socket") for turn in range(20)]
        await one.renew(held)
        before = stored.info("commandstats")["cmdstat_evalsha"]["calls"]
        await one.renew(held)

        assert stored.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1
