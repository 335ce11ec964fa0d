"""Limits while Redis is stopped or frozen: strict, local, without an error and nearly without a wait."""

import asyncio
import signal
import threading

import psutil
import pytest
import redis

from accounts.limits import shared_redis
from accounts.limits.rate_limits import Hit, Rate, RateLimiter
from accounts.limits.shared_redis import CONNECTIONS, SharedRedis, _LoopClient, _ThreadClient
from accounts.tests.redis_servers import own_redis
from llmsite.testing.servers import start_redis

HIT = Hit("user:7", Rate(12, 60.0))
SHARE = 3


@pytest.fixture
def server():
    with own_redis() as server:
        yield server


@pytest.fixture
def shared(server):
    # Longer than the site's own: a machine that is busy with other tests is no Redis that is away.
    shared = SharedRedis(server.url, timeout=1)
    yield shared
    shared.reset()


@pytest.fixture
def limiter(shared):
    return RateLimiter(shared, processes=4)


@pytest.fixture
def pause(monkeypatch):
    """Sets how long Redis is left alone; at first for ever, so that no test depends on the time it takes."""

    def set_pause(seconds):
        monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", seconds)

    set_pause(3600)
    return set_pause


@pytest.fixture
def tries(monkeypatch):
    """Collects the calls that are sent to Redis."""
    sent, run = [], _LoopClient.run

    async def counted(client, *question):
        sent.append(question)
        return await run(client, *question)

    monkeypatch.setattr(_LoopClient, "run", counted)
    return sent


def freeze(server):
    server.process.send_signal(signal.SIGSTOP)
    while psutil.Process(server.process.pid).status() != psutil.STATUS_STOPPED:
        pass


def thaw(server):
    server.process.send_signal(signal.SIGCONT)


def end_the_pause(shared):
    shared.outage._until = 0.0


def told(caplog):
    return [record.msg["event"] for record in caplog.records if record.name == "llmsite.shared_redis"]


@pytest.mark.parametrize("trouble", ["stopped", "frozen", "never there"])
class TestAway:
    @pytest.fixture
    def limiter(self, server, trouble, pause, caplog):
        if trouble == "never there":
            yield RateLimiter(SharedRedis("redis://127.0.0.1:1/0"), processes=4)
            return
        shared = SharedRedis(server.url)
        limiter = RateLimiter(shared, processes=4)
        assert limiter.hit_sync(HIT).limit == 12
        server.stop() if trouble == "stopped" else freeze(server)
        yield limiter
        shared.reset()

    async def test_each_process_allows_its_share(self, limiter):
        verdicts = [await limiter.hit(HIT) for _ in range(10)] + [limiter.hit_sync(HIT) for _ in range(10)]

        assert [verdict.allowed for verdict in verdicts] == [True] * SHARE + [False] * (20 - SHARE)
        assert verdicts[0].limit == SHARE
        assert 0 < verdicts[-1].retry_after <= 60

    def test_threads_are_counted_locally_too(self, limiter):
        assert sum(limiter.hit_sync(HIT).allowed for _ in range(10)) == SHARE

    async def test_it_is_tried_once_and_then_left_alone(self, limiter, tries, caplog):
        for _ in range(30):
            await limiter.hit(HIT)

        assert len(tries) == 1
        assert told(caplog) == ["redis_away"]

    async def test_after_the_pause_one_call_tries_again(self, limiter, tries, caplog):
        await limiter.hit(HIT)
        end_the_pause(limiter._redis)
        await asyncio.gather(*(limiter.hit(HIT) for _ in range(30)))

        assert len(tries) == 2
        assert told(caplog) == ["redis_away"]

    async def test_a_limit_of_one_stays_one(self, limiter):
        hit = Hit("user:8", Rate(1, 60.0))

        assert [(await limiter.hit(hit)).allowed for _ in range(3)] == [True, False, False]


async def test_calls_that_wait_for_a_connection_do_not_wait_for_a_frozen_redis(server, limiter, pause, tries):
    await limiter.hit(HIT)
    freeze(server)
    tries.clear()

    await asyncio.gather(*(limiter.hit(HIT) for _ in range(200)))

    assert len(tries) == CONNECTIONS


def test_threads_that_wait_for_a_connection_do_not_wait_for_a_frozen_redis(
    server, limiter, pause, monkeypatch
):
    tries, run = [], _ThreadClient.run

    def counted(client, *question):
        tries.append(question)
        return run(client, *question)

    limiter.hit_sync(HIT)
    freeze(server)
    monkeypatch.setattr(_ThreadClient, "run", counted)
    threads = [threading.Thread(target=limiter.hit_sync, args=(HIT,)) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 0 < len(tries) <= CONNECTIONS


@pytest.mark.parametrize("way", ["loop", "thread"])
async def test_a_frozen_redis_is_asked_once_and_not_again_by_its_client(server, limiter, pause, way):
    async def ask():
        return await limiter.hit(HIT) if way == "loop" else limiter.hit_sync(HIT)

    await ask()
    with redis.Redis.from_url(server.url) as client:
        before = client.info("everything")
        freeze(server)
        await ask()
        thaw(server)
        after = client.info("everything")

    assert after["total_connections_received"] == before["total_connections_received"]
    assert after["cmdstat_evalsha"]["calls"] <= before["cmdstat_evalsha"]["calls"] + 1


async def test_a_redis_that_comes_back_counts_again(server, shared, limiter, pause, caplog):
    await limiter.hit(HIT)
    freeze(server)
    assert (await limiter.hit(HIT)).limit == SHARE
    thaw(server)
    end_the_pause(shared)

    verdict = await limiter.hit(HIT)

    assert verdict.limit == 12
    assert told(caplog) == ["redis_away", "redis_back"]


async def test_a_restarted_redis_counts_again(server, shared, limiter, pause):
    await asyncio.gather(*(limiter.hit(HIT) for _ in range(5)))
    limiter.hit_sync(HIT)
    server.stop()
    assert (await limiter.hit(HIT)).limit == SHARE
    again = start_redis(server.log.parent)
    try:
        end_the_pause(shared)
        # None of the connections of before is used.
        verdicts = [await limiter.hit(HIT) for _ in range(6)] + [limiter.hit_sync(HIT)]
    finally:
        again.stop()

    assert [verdict.remaining for verdict in verdicts] == [11, 10, 9, 8, 7, 6, 5]


async def test_a_call_that_was_given_up_leaves_no_answer_for_the_next(server, shared, limiter, pause):
    await limiter.hit(HIT)
    freeze(server)
    call = asyncio.create_task(limiter.hit(HIT))
    while not call.done():
        await asyncio.sleep(0)
        if shared._loops[asyncio.get_running_loop()].pool._in_use_connections:
            call.cancel()
    thaw(server)

    other = await limiter.hit(Hit("user:8", Rate(500, 60.0)))

    assert call.cancelled()
    assert (other.limit, other.remaining) == (500, 499)
