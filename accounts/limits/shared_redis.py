"""The Redis in which all web processes count together, and what to do while it is away.

A Redis that fails is left alone for a second, and then one call tries it again: so a frozen one costs
one time-out a second and not one a request. `RedisAway` tells a caller to count by itself meanwhile.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from redis import Redis
from redis.asyncio import ConnectionPool as AsyncConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

log = structlog.get_logger("llmsite.shared_redis")

SOCKET_SECONDS = 0.3
PAUSE_SECONDS = 1.0
"""How long a Redis that failed is left alone."""
CONNECTIONS = 16
"""The most that one event loop keeps, and the most that all threads keep together."""


class RedisAway(Exception):
    """Redis is not set, does not answer, or failed a moment ago."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script that Redis runs as one step."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False)  # The name Redis gives it.
        object.__setattr__(self, "sha", digest.hexdigest())


class Outage:
    """Whether Redis, or another server, is left alone in this process. Threads and event loops share it."""

    def __init__(self, name: str = "redis", *, until_then: str = "each process counts by itself") -> None:
        self._name = name
        self._until_then = until_then
        self._until: float | None = None
        self._lock = threading.Lock()

    @property
    def lasts(self) -> bool:
        return self._until is not None

    def may_try(self) -> bool:
        """True while Redis works; during an outage for one caller after each pause."""
        if not self.lasts:
            return True
        with self._lock:
            if self._until is None:
                return True
            if time.monotonic() < self._until:
                return False
            # The others wait until this one knows more, or has been given up.
            self._until = time.monotonic() + PAUSE_SECONDS
            return True

    def failed(self, error: BaseException) -> None:
        with self._lock:
            began = self._until is None
            self._until = time.monotonic() + PAUSE_SECONDS
        if began:
            log.warning(f"{self._name}_away", error=repr(error), until_then=self._until_then)

    def worked(self) -> None:
        if not self.lasts:
            return
        with self._lock:
            ended, self._until = self._until is not None, None
        if ended:
            log.warning(f"{self._name}_back")


class SharedRedis:
    """Runs scripts for the event loop and for threads; nothing is opened before it is needed."""

    def __init__(self, url: str, *, timeout: float = SOCKET_SECONDS) -> None:
        self._url = url
        self._timeout = timeout
        self.outage = Outage()
        self._loops: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        self._threads: _ThreadClient | None = None
        self._lock = threading.Lock()

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        """The script's answer. Raises RedisAway."""
        if not self._url or not self.outage.may_try():
            raise RedisAway
        client = self._loops.get(asyncio.get_running_loop()) or await self._open()
        was_away = self.outage.lasts
        async with client.places:
            # While this call waited for its place, another one may have found out.
            if self.outage.lasts and not was_away:
                raise RedisAway
            try:
                answer = await client.run(script, keys, arguments)
            except (RedisError, OSError) as error:
                self.outage.failed(error)
                raise RedisAway from error
        self.outage.worked()
        return answer

    def run_sync(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        """The same for code in a thread."""
        if not self._url or not self.outage.may_try():
            raise RedisAway
        client = self._thread_client()
        was_away = self.outage.lasts
        with client.places:
            if self.outage.lasts and not was_away:
                raise RedisAway
            try:
                answer = client.run(script, keys, arguments)
            except (RedisError, OSError) as error:
                self.outage.failed(error)
                raise RedisAway from error
        self.outage.worked()
        return answer

    def reset(self) -> None:
        """Close what threads use, forget an outage and the clients of ended loops; for tests."""
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            self._loops.pop(loop, None)
        with self._lock:
            if self._threads is not None:
                self._threads.close()
            self._threads = None
        self.outage = Outage()

    async def _open(self) -> "_LoopClient":
        """A client for the running loop. The loop closes it when it ends, as it does with all generators."""
        loop = asyncio.get_running_loop()
        life = self._live(loop)
        self._loops[loop] = client = await anext(life)
        client.life = life
        return client

    async def _live(self, loop: asyncio.AbstractEventLoop) -> "AsyncGenerator[_LoopClient, None]":
        client = _LoopClient(self._url, self._timeout)
        try:
            yield client
        finally:
            self._loops.pop(loop, None)
            with suppress(RedisError, OSError):
                await client.pool.disconnect()

    def _thread_client(self) -> "_ThreadClient":
        with self._lock:
            if self._threads is None:
                self._threads = _ThreadClient(self._url, self._timeout)
            return self._threads


def _options(timeout: float) -> dict[str, float]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "max_connections": CONNECTIONS,
    }


# No retries: redis-py would repeat a call that timed out, which counts it twice and waits for it again.
_NO_RETRY = Retry(NoBackoff(), 0)
_NO_ASYNC_RETRY = AsyncRetry(NoBackoff(), 0)


class _LoopClient:
    def __init__(self, url: str, timeout: float) -> None:
        self.pool = AsyncConnectionPool.from_url(url, retry=_NO_ASYNC_RETRY, **_options(timeout))
        self.places = asyncio.Semaphore(CONNECTIONS)
        self.life: AsyncGenerator[_LoopClient, None] | None = None
        self._redis = AsyncRedis(connection_pool=self.pool)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        try:
            return await self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # Redis is new, or was restarted: it has not run the script, and learns it.
            return await self._redis.eval(script.text, len(keys), *keys, *arguments)


class _ThreadClient:
    def __init__(self, url: str, timeout: float) -> None:
        self.pool = ConnectionPool.from_url(url, retry=_NO_RETRY, **_options(timeout))
        self.places = threading.BoundedSemaphore(CONNECTIONS)
        self._redis = Redis(connection_pool=self.pool)

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        try:
            return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return self._redis.eval(script.text, len(keys), *keys, *arguments)

    def close(self) -> None:
        self.pool.disconnect()


shared_redis = SharedRedis(settings.REDIS_URL)
