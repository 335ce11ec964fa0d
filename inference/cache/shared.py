"""Level 2: answers in Redis, where all processes find them. Without Redis this level is empty.

django-redis is synchronous, so each call takes a thread; it is made only where level 1 has nothing. A Redis
that fails is a miss, and is then left alone for a second (`Outage`).
"""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import structlog
from redis.exceptions import RedisError

from accounts.limits.shared_redis import Outage
from inference.cache.answers import CachedAnswer, loads
from inference.catalogue import catalogue

T = TypeVar("T")

THREADS = 8
LEASE_SECONDS = 10
"""How long the mark of an answer that is being made outlives a process that died."""
SCAN = 10_000
"""How many keys Redis looks through at once, where some are to be found by their beginning."""
_MAKING = "making:"

log = structlog.get_logger("llmsite.cache")


class SharedCache:
    """The level-2 cache of one site. `store` gives the thread's cache of django-redis; None means none."""

    def __init__(self, store: Callable[[], Any] | None) -> None:
        self._store = store
        self.outage = Outage()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def enabled(self) -> bool:
        return self._store is not None

    async def find(self, key: str) -> CachedAnswer | None:
        answer = loads(await self._run(lambda store: store.get(key), None), key=key)
        if answer is None or catalogue.has_evicted(key, created=answer.created):
            return None
        return answer

    async def keep(self, answer: CachedAnswer, *, seconds: float) -> None:
        text, timeout = answer.dumps(), math.floor(seconds)
        if timeout > 0:
            await self._run(lambda store: store.set(answer.key, text, timeout=timeout), None)

    async def claim(self, key: str) -> bool:
        """Whether this process is the one to make the answer; True also where nobody can tell."""
        return await self._run(lambda store: store.add(_MAKING + key, 1, timeout=LEASE_SECONDS), True)

    async def renew(self, key: str) -> None:
        await self._run(lambda store: store.set(_MAKING + key, 1, timeout=LEASE_SECONDS), None)

    async def release(self, key: str) -> None:
        await self._run(lambda store: store.delete(_MAKING + key), None)

    async def is_being_made(self, key: str) -> bool:
        return await self._run(lambda store: store.has_key(_MAKING + key), False)

    async def forget(self, prefix: str = "") -> int | None:
        """Delete the answers whose key begins with `prefix`; None where Redis could not be asked."""
        return await self._run(lambda store: store.delete_pattern(f"{prefix}*", itersize=SCAN), None)

    def forget_in_thread(self, prefix: str) -> int:
        """`forget` for code in a thread. Raises RedisError where Redis could not be asked."""
        return self._store().delete_pattern(f"{prefix}*", itersize=SCAN) if self._store else 0

    def delete_in_thread(self, key: str) -> None:
        """Delete one answer, from a thread. Raises RedisError where Redis could not be asked."""
        if self._store is not None:
            self._store().delete(key)

    async def count(self) -> int | None:
        return await self._run(
            lambda store: sum(not key.startswith(_MAKING) for key in store.iter_keys("*", itersize=SCAN)),
            None,
        )

    async def _run(self, call: Callable[[Any], T], otherwise: T) -> T:
        """`call` in a thread; `otherwise` where there is no Redis."""
        if self._store is None or not self.outage.may_try():
            return otherwise
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cache")
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._threads, copy_context().run, _call, call, self._store)
        except (RedisError, OSError) as error:
            self.outage.failed(error)
            return otherwise
        except ValueError as error:
            # What lies there is not ours, or was damaged; Redis itself is well.
            log.warning("cached_answer_unreadable", error=repr(error))
            answer = otherwise
        self.outage.worked()
        return answer


def _call(call: Callable[[Any], T], store: Callable[[], Any]) -> T:
    return call(store())
