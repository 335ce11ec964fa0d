"""Levels 1 and 2: bounded, of limited life, plain JSON, and a miss where the store is away."""

import signal
import time

import pytest
import redis
from django_redis.cache import RedisCache

from accounts.limits import shared_redis
from accounts.tests.redis_servers import own_redis
from inference.cache.answers import CachedAnswer, loads
from inference.cache.memory import MemoryCache
from inference.cache.shared import SharedCache


def answer(key="tag:key", text="Hello there", **values):
    given = {
        "key": key,
        "text": text,
        "delta_lengths": (len(text),),
        "finish_reason": "stop",
        "input_tokens": 3,
        "output_tokens": 2,
        "created": time.time(),
    }
    return CachedAnswer(**{**given, **values})


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class TestValues:
    def test_it_comes_back_as_it_was(self):
        kept = answer(text="Wörld 🦊\n", delta_lengths=(5, 3))
        assert loads(kept.dumps(), key=kept.key) == kept
        assert kept.pieces() == ["Wörld", " 🦊\n"]

    @pytest.mark.parametrize(
        "text",
        [None, 7, b"{}", "", "null", "[]", "{}", '{"schema": 1}', "not json"],
        ids=repr,
    )
    def test_anything_else_is_nothing(self, text):
        assert loads(text) is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"schema":2', '"schema":1'),
            ('"text":"Hello there"', '"text":7'),
            ('"delta_lengths":[11]', '"delta_lengths":[10]'),
            ('"finish_reason"', '"reason"'),
        ],
    )
    def test_one_that_was_changed_is_nothing(self, old, new):
        dumped = answer().dumps()
        assert old in dumped
        assert loads(dumped.replace(old, new)) is None

    def test_one_of_another_key_is_nothing(self):
        assert loads(answer(key="tag:one").dumps(), key="tag:other") is None

    def test_its_life_ends_and_never_grows(self):
        assert answer(created=time.time() - 50).expires_in(60) == pytest.approx(10, abs=1)
        assert answer(created=time.time() + 500).expires_in(60) == 60


class TestMemory:
    def test_the_one_unused_for_longest_goes_first(self):
        memory = MemoryCache(2)
        for key in ("a", "b"):
            memory.keep(answer(key), seconds=60)
        memory.find("a")
        memory.keep(answer("c"), seconds=60)

        assert [bool(memory.find(key)) for key in "abc"] == [True, False, True]

    def test_it_holds_only_so_many_characters(self, monkeypatch):
        monkeypatch.setattr("inference.cache.memory.MOST_CHARACTERS", 25)
        memory = MemoryCache(100)
        for key in "abc":
            memory.keep(answer(key, text="x" * 10), seconds=60)

        assert [bool(memory.find(key)) for key in "abc"] == [False, True, True]

    def test_an_answer_lives_for_its_seconds(self):
        memory = MemoryCache(2, clock=(clock := Clock()))
        memory.keep(answer("a"), seconds=60)
        clock.now = 59.9
        assert memory.find("a")
        clock.now = 60.0
        assert memory.find("a") is None
        assert len(memory) == 0

    def test_a_size_of_nothing_keeps_nothing(self):
        memory = MemoryCache(0)
        memory.keep(answer("a"), seconds=60)
        assert memory.find("a") is None

    def test_the_answers_of_one_scope_are_forgotten(self):
        memory = MemoryCache(10)
        for key in ("one:a", "one:b", "two:a"):
            memory.keep(answer(key), seconds=60)

        assert memory.forget("one:") == 2
        assert memory.find("two:a")


@pytest.fixture
def server():
    with own_redis() as server:
        yield server


@pytest.fixture
def shared(server, settings):
    """Level 2 on a Redis of its own, with the settings of the site but for the time-outs."""
    options = {
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        # Longer than the site's: a machine that is busy with other tests is no Redis that is away.
        "SOCKET_CONNECT_TIMEOUT": 1,
        "SOCKET_TIMEOUT": 1,
        "CONNECTION_POOL_KWARGS": {"retry": shared_redis._NO_RETRY},
    }
    store = RedisCache(server.url, {"KEY_PREFIX": "llmsite:answers", "OPTIONS": options})
    shared = SharedCache(lambda: store)
    yield shared
    store.client.get_client(write=True).connection_pool.disconnect()


@pytest.fixture
def for_ever(monkeypatch):
    """A Redis that failed is left alone for ever, so that no test depends on the time it takes."""
    monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 3600)


class TestShared:
    async def test_what_is_kept_is_found_and_is_plain_json(self, shared, server):
        await shared.keep(answer(), seconds=60)

        assert await shared.find("tag:key") == answer(created=(await shared.find("tag:key")).created)
        [(name, raw)] = [
            (name, redis.from_url(server.url).get(name)) for name in redis.from_url(server.url).scan_iter()
        ]
        assert name == b"llmsite:answers:1:tag:key"
        assert raw.startswith(b'"{')
        assert 50 < redis.from_url(server.url).ttl(name) <= 60

    async def test_what_lies_under_the_wrong_key_is_not_told(self, shared, server):
        await shared.keep(answer(), seconds=60)
        redis.from_url(server.url).rename("llmsite:answers:1:tag:key", "llmsite:answers:1:tag:other")
        assert await shared.find("tag:other") is None

    async def test_forgetting_leaves_alone_what_is_not_its_own(self, shared, server):
        await shared.keep(answer("one:a"), seconds=60)
        await shared.keep(answer("two:a"), seconds=60)
        redis.from_url(server.url).set("llmsite:limit:x", 1)

        assert await shared.forget("one:") == 1
        assert await shared.count() == 1
        assert await shared.forget() == 1
        assert redis.from_url(server.url).keys() == [b"llmsite:limit:x"]

    async def test_one_process_makes_an_answer(self, shared):
        assert await shared.claim("k")
        assert not await shared.claim("k")
        await shared.release("k")
        assert await shared.claim("k")

    async def test_a_stopped_redis_is_a_miss(self, shared, server, for_ever):
        await shared.keep(answer(), seconds=60)
        server.stop()

        assert await shared.find("tag:key") is None
        await shared.keep(answer(), seconds=60)
        assert await shared.claim("k")
        assert await shared.forget() is None

    async def test_a_frozen_redis_is_asked_once(self, shared, server, for_ever, monkeypatch):
        await shared.keep(answer(), seconds=60)
        server.process.send_signal(signal.SIGSTOP)
        tries = []
        shared._store = (lambda store: lambda: (tries.append(1), store())[1])(shared._store)
        try:
            found = [await shared.find("tag:key") for _ in range(20)]
        finally:
            server.process.send_signal(signal.SIGCONT)

        assert found == [None] * 20
        assert len(tries) == 1

    async def test_a_redis_that_is_back_is_used_again(self, shared, server, monkeypatch):
        monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 0)
        server.process.send_signal(signal.SIGSTOP)
        assert await shared.find("tag:key") is None
        server.process.send_signal(signal.SIGCONT)
        await shared.keep(answer(), seconds=60)
        assert await shared.find("tag:key")

    async def test_a_full_redis_still_tells_what_it_has(self, shared, server, monkeypatch):
        monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 0)
        await shared.keep(answer(), seconds=60)
        client = redis.from_url(server.url)
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)

        await shared.keep(answer("tag:more"), seconds=60)
        assert await shared.find("tag:key")
        assert await shared.find("tag:more") is None

    async def test_a_replica_still_tells_what_it_has(self, shared, server, monkeypatch):
        monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 0)
        await shared.keep(answer(), seconds=60)
        client = redis.from_url(server.url)
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", 1)

        await shared.keep(answer("tag:more"), seconds=60)
        assert await shared.find("tag:key")
        assert await shared.find("tag:more") is None
