"""Limits: exact in every window, all buckets or none, the same in Redis and in memory."""

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest
import redis
from django.conf import settings

from accounts.limits import local, rate_limits
from accounts.limits.local import LocalLimits
from accounts.limits.rate_limits import Hit, Rate, RateLimiter, Verdict
from accounts.limits.shared_redis import SharedRedis
from accounts.tests.redis_servers import own_redis
from llmsite.core.errors import RateLimited

MINUTE = 60.0


@pytest.fixture(scope="module")
def redis_url():
    with own_redis() as server:
        yield server.url


@pytest.fixture
def stored(redis_url):
    """What is in Redis; empty at the start of each test."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def shared(redis_url, stored):
    # A machine that is busy with other tests shall not look like a Redis that is away.
    shared = SharedRedis(redis_url, timeout=30)
    yield shared
    shared.reset()


@pytest.fixture(params=["memory", "redis"])
def limiter(request):
    if request.param == "memory":
        return RateLimiter(None)
    return RateLimiter(request.getfixturevalue("shared"), processes=4)


def allowed(limiter, tries, *hits):
    return sum(limiter.hit_sync(*hits).allowed for _ in range(tries))


class TestOneBucket:
    def test_it_takes_its_count_and_no_more(self, limiter):
        assert allowed(limiter, 10, Hit("user:7", Rate(4, MINUTE))) == 4

    async def test_the_event_loop_and_threads_count_together(self, limiter):
        hit = Hit("user:7", Rate(3, MINUTE))

        verdicts = [
            await limiter.hit(hit),
            limiter.hit_sync(hit),
            await limiter.hit(hit),
            limiter.hit_sync(hit),
        ]

        assert [verdict.allowed for verdict in verdicts] == [True, True, True, False]

    async def test_calls_at_once_are_counted_one_by_one(self, limiter):
        hit = Hit("user:7", Rate(50, MINUTE))

        verdicts = await asyncio.gather(*(limiter.hit(hit) for _ in range(200)))

        assert sum(verdict.allowed for verdict in verdicts) == 50

    def test_keys_and_lengths_of_windows_are_buckets_of_their_own(self, limiter):
        hits = [Hit("user:7", Rate(1, MINUTE)), Hit("user:8", Rate(1, MINUTE)), Hit("user:7", Rate(1, 3600))]

        assert [limiter.hit_sync(hit).allowed for hit in hits] == [True, True, True]

    def test_a_caller_is_told_how_much_is_left_and_when_to_come_again(self, limiter):
        hit = Hit("user:7", Rate(2, MINUTE))

        first, second, third = (limiter.hit_sync(hit) for _ in range(3))

        assert (first.allowed, first.limit, first.remaining, first.retry_after) == (True, 2, 1, 0)
        assert first.reset_seconds == MINUTE
        assert (second.allowed, second.remaining, second.retry_after) == (True, 0, 0)
        assert (third.allowed, third.remaining) == (False, 0)
        assert 0 < third.retry_after == third.reset_seconds < MINUTE

    def test_any_rolling_window_holds_at_most_the_count(self, limiter):
        """Two calls that are `count` apart were asked for and answered at least a window apart."""
        rate, times = Rate(20, 0.2), []
        while len(times) < 90:
            asked = time.monotonic()
            if limiter.hit_sync(Hit("user:7", rate)).allowed:
                times.append((asked, time.monotonic()))

        gaps = [later[1] - earlier[0] for earlier, later in zip(times, times[rate.count :], strict=False)]
        assert min(gaps) >= rate.seconds

    def test_after_retry_after_the_same_call_is_allowed(self, limiter):
        hits = [Hit("user:7", Rate(2, 0.2)), Hit("key:7", Rate(1, 0.1))]
        for _ in range(6):
            verdict = limiter.hit_sync(*hits)
            if not verdict.allowed:
                # The wait is by the clock of Redis; ours may run a little faster.
                time.sleep(verdict.retry_after + 0.002)
                assert limiter.hit_sync(*hits).allowed

    def test_a_rate_that_was_lowered_waits_for_as_many_as_are_too_many(self, limiter):
        for _ in range(3):
            limiter.hit_sync(Hit("user:7", Rate(3, MINUTE)))
        verdict = limiter.hit_sync(Hit("user:7", Rate(1, MINUTE)))

        assert (verdict.allowed, verdict.remaining) == (False, 0)
        assert verdict.retry_after > verdict.reset_seconds


class TestSeveralBuckets:
    def test_a_call_is_counted_in_all_or_in_none(self, limiter):
        address, user = Hit("address:10.0.0.1", Rate(5, MINUTE)), Hit("user:7", Rate(2, MINUTE))

        assert allowed(limiter, 6, address, user) == 2
        assert limiter.hit_sync(address).remaining == 2  # Two with the user, this one, and no refused one.

    def test_the_narrowest_bucket_speaks(self, limiter):
        wide, narrow = Hit("address:10.0.0.1", Rate(10, MINUTE)), Hit("user:7", Rate(3, MINUTE))

        verdict = limiter.hit_sync(wide, narrow)

        assert (verdict.limit, verdict.remaining) == (3, 2)

    def test_of_full_buckets_the_one_that_takes_longest(self, limiter):
        short, long = Hit("user:7", Rate(1, MINUTE)), Hit("user:7", Rate(1, 3600))
        limiter.hit_sync(short, long)

        verdict = limiter.hit_sync(short, long)

        assert MINUTE < verdict.retry_after <= 3600

    def test_a_full_bucket_speaks_before_one_that_is_merely_used_up(self, limiter):
        full, used_up = Hit("user:7", Rate(1, MINUTE)), Hit("key:7", Rate(1, 3600))
        limiter.hit_sync(full)
        verdict = limiter.hit_sync(used_up, full)

        assert (verdict.allowed, verdict.limit) == (False, 1)
        assert limiter.hit_sync(used_up).allowed

    def test_one_bucket_named_twice_counts_once(self, limiter):
        hit, stricter = Hit("user:7", Rate(5, MINUTE)), Hit("user:7", Rate(3, MINUTE))

        assert allowed(limiter, 9, hit, stricter) == 3


def test_a_refusal_becomes_an_error_that_says_when_to_come_again():
    with pytest.raises(RateLimited) as raised:
        Verdict(False, 60, 0, 30.0, 12.5).raise_if_refused()
    Verdict(True, 60, 59, 60.0, 0).raise_if_refused()

    assert raised.value.retry_after == 12.5


class TestRedis:
    def test_sixteen_processes_are_allowed_exactly_the_limit(self, redis_url, stored):
        command = [sys.executable, "-m", "accounts.tests.hammer", redis_url, "500", "16", "50"]

        ended = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=50)

        assert ended.returncode == 0, ended.stderr
        each = [int(line) for line in ended.stdout.split()]
        assert len(each) == 16
        assert sum(each) == 500

    def test_times_are_kept_to_the_microsecond(self, shared, stored):
        limiter, hit = RateLimiter(shared), Hit("user:7", Rate(50, MINUTE))
        seconds, microseconds = stored.time()
        allowed(limiter, 50, hit)

        times = [int(text) for text in stored.lrange("llmsite:limit:user:7:60", 0, -1)]
        assert times == sorted(times)
        assert seconds * 1_000_000 + microseconds <= times[0]

    def test_a_refused_call_writes_nothing(self, shared, stored):
        limiter, hits = RateLimiter(shared), [Hit("user:7", Rate(1, MINUTE)), Hit("key:7", Rate(9, MINUTE))]
        limiter.hit_sync(*hits)
        before = {key: stored.lrange(key, 0, -1) for key in stored.keys("*")}

        assert allowed(limiter, 5, *hits) == 0
        assert {key: stored.lrange(key, 0, -1) for key in stored.keys("*")} == before

    def test_idle_buckets_vanish(self, shared, stored):
        limiter = RateLimiter(shared)
        limiter.hit_sync(Hit("user:7", Rate(5, MINUTE)), Hit("address:10.0.0.1", Rate(600, 3600)))

        ends = {key.decode(): stored.pttl(key) for key in stored.keys("*")}

        assert set(ends) == {"llmsite:limit:user:7:60", "llmsite:limit:address:10.0.0.1:3600"}
        assert 0 < ends["llmsite:limit:user:7:60"] <= 60_000
        assert 60_000 < ends["llmsite:limit:address:10.0.0.1:3600"] <= 3_600_000

    def test_one_round_trip_for_all_buckets(self, shared, stored):
        limiter, hits = RateLimiter(shared), [Hit(f"key:{turn}", Rate(5, MINUTE)) for turn in range(4)]
        limiter.hit_sync(*hits)
        before = stored.info("commandstats")["cmdstat_evalsha"]["calls"]

        limiter.hit_sync(*hits)

        assert stored.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1

    async def test_a_redis_that_forgot_the_script_learns_it_again(self, shared, stored):
        limiter, hit = RateLimiter(shared), Hit("user:7", Rate(9, MINUTE))
        limiter.hit_sync(hit)
        stored.script_flush()
        assert limiter.hit_sync(hit).remaining == 7
        stored.script_flush()
        assert (await limiter.hit(hit)).remaining == 6

    def test_each_loop_has_its_connections_and_closes_them(self, shared, stored):
        limiter, hit = RateLimiter(shared), Hit("user:7", Rate(500, MINUTE))

        async def many():
            return await asyncio.gather(*(limiter.hit(hit) for _ in range(40)))

        before = len(stored.client_list())
        for _ in range(3):
            asyncio.run(many())
        gc.collect()  # A connection left open would be a ResourceWarning, which is an error here.

        assert limiter.hit_sync(hit).remaining == 500 - 121
        deadline = time.monotonic() + 10
        while len(stored.client_list()) > before + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(stored.client_list()) == before + 1  # The one for threads.

    def test_connections_are_bounded(self, shared, stored):
        limiter, hit = RateLimiter(shared), Hit("user:7", Rate(500, MINUTE))
        before = stored.info("stats")["total_connections_received"]

        async def many():
            return await asyncio.gather(*(limiter.hit(hit) for _ in range(200)))

        assert all(verdict.allowed for verdict in asyncio.run(many()))
        threads = [threading.Thread(target=allowed, args=(limiter, 5, hit)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert stored.info("stats")["total_connections_received"] - before <= 32
        assert limiter.hit_sync(hit).remaining == 500 - 401


class Clock:
    """Nanoseconds that pass when a test says so."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += round(seconds * 1e9)


class TestMemory:
    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def limits(self, clock):
        return LocalLimits(clock=clock)

    def hit(self, limits, key="user:7", count=2, seconds=MINUTE):
        return rate_limits.judge(limits.hit([Hit(key, Rate(count, seconds))]))

    def test_a_place_is_free_when_its_window_is_over_and_not_before(self, limits, clock):
        self.hit(limits)
        clock.wait(59)
        self.hit(limits)
        clock.wait(1 - 1e-9)
        assert not self.hit(limits).allowed
        clock.wait(1e-9)
        assert self.hit(limits).allowed
        assert not self.hit(limits).allowed

    def test_a_refused_call_does_not_push_the_window(self, limits, clock):
        self.hit(limits, count=1)
        clock.wait(30)
        assert self.hit(limits, count=1).retry_after == 30
        clock.wait(30)
        assert self.hit(limits, count=1).allowed

    def test_empty_buckets_are_forgotten(self, limits, clock):
        for turn in range(100):
            self.hit(limits, key=f"address:{turn}")
        clock.wait(MINUTE)
        for _ in range(60):
            self.hit(limits, key="user:7", count=100)

        assert len(limits) == 1

    def test_there_are_never_more_buckets_than_the_most_and_the_idlest_goes(self, limits, monkeypatch):
        monkeypatch.setattr(local, "MOST_BUCKETS", 10)
        for turn in range(50):
            self.hit(limits, key=f"address:{turn}")
            if turn % 5 == 0:
                busy = self.hit(limits, key="user:7", count=100)

        assert len(limits) == 10
        assert busy.remaining == 90  # It was never idle, so it was never forgotten.

    def test_threads_are_counted_one_by_one(self):
        limits, results = LocalLimits(), []
        start = threading.Barrier(8)

        def ask():
            start.wait()
            results.extend(self.hit(limits, count=500).allowed for _ in range(200))

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)

        assert len(results) == 1600
        assert sum(results) == 500


class TestRate:
    @pytest.mark.parametrize(
        ("text", "count", "seconds"),
        [("60/m", 60, 60.0), ("1/s", 1, 1.0), ("5 / h", 5, 3600.0), ("1000/d", 1000, 86400.0)],
    )
    def test_it_reads_a_number_per_unit(self, text, count, seconds):
        assert Rate.parse(text) == Rate(count, seconds)
        assert str(Rate.parse(text)) == text.replace(" ", "")

    @pytest.mark.parametrize("text", ["", "60", "60/", "/m", "0/m", "-1/m", "1.5/m", "60/x", "60/mm", "٣/m"])
    def test_it_refuses_all_else(self, text):
        with pytest.raises(ValueError):  # noqa: PT011
            Rate.parse(text)

    @pytest.mark.parametrize(("processes", "share"), [(1, 10), (4, 2), (16, 1)])
    def test_a_share_is_rounded_down_and_never_nothing(self, processes, share):
        assert Rate(10, MINUTE).share(processes) == Rate(share, MINUTE)
