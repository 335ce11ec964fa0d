"""The three levels as one cache: memory, Redis, and questions that mean the same."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.cache import caches

from inference.cache import semantic
from inference.cache.answers import CachedAnswer, loads
from inference.cache.memory import MemoryCache
from inference.cache.shared import SharedCache
from inference.catalogue import MOST_SECONDS, catalogue
from inference.grounding.grounds import Grounds
from inference.grounding.shelf import Shelf
from inference.models import Version
from llmsite.core.background import spawn
from llmsite.core.metrics import CACHE_REQUESTS

Level = Literal["verified", "l1", "l2", "l3"]

_L1_HITS = CACHE_REQUESTS.labels("l1", "hit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Where `model`'s answer to a question is kept; `partition` is empty where only the same words count.

    `shelf` and `grounds` are set where it is made of documents: what may be read, and what was found there.
    """

    model: str
    key: str
    partition: str = ""
    question: str = ""
    shelf: Shelf | None = None
    grounds: Grounds | None = None


@dataclass(frozen=True, slots=True)
class CachedHit:
    """An answer from the cache, and from where."""

    answer: CachedAnswer
    level: Level
    similarity: float | None = None

    @property
    def is_of_a_model(self) -> bool:
        """Whether a model wrote it, and not a curator."""
        return self.level != "verified"


class AnswerCache:
    """What all doors of this process ask before a model."""

    def __init__(self) -> None:
        self.memory = MemoryCache(settings.CACHE_L1_SIZE)
        self.shared = SharedCache((lambda: caches["answers"]) if settings.REDIS_URL else None)

    def find_in_memory(self, lookup: Lookup) -> CachedHit | None:
        answer = self.memory.find(lookup.key)
        if answer is None or catalogue.has_evicted(answer.key, created=answer.created):
            return None
        _L1_HITS.inc()
        return CachedHit(answer, "l1")

    async def find_further(self, lookup: Lookup) -> CachedHit | None:
        """What the other levels have; an answer from level 2 is then kept here as well."""
        return await self._find_shared(lookup) or await self._find_alike(lookup)

    async def _find_shared(self, lookup: Lookup) -> CachedHit | None:
        answer = await self.shared.find(lookup.key)
        if answer is None:
            return None
        self.memory.keep(answer, seconds=answer.expires_in(settings.CACHE_TTL))
        CACHE_REQUESTS.labels("l2", "hit").inc()
        return CachedHit(answer, "l2")

    async def _find_alike(self, lookup: Lookup) -> CachedHit | None:
        """An answer to other words of the same meaning; it is not kept under these, being no exact one."""
        if not lookup.partition:
            return None
        alike = await semantic.find(lookup.partition, lookup.question)
        answer = loads(alike.value) if alike is not None else None
        if alike is None or answer is None or answer.expires_in(settings.CACHE_TTL) <= 0:
            return None
        if catalogue.has_evicted(answer.key, created=answer.created):
            return None
        CACHE_REQUESTS.labels("l3", "hit").inc()
        return CachedHit(answer, "l3", alike.similarity)

    def keep(self, lookup: Lookup, answer: CachedAnswer) -> None:
        """Keep a new answer on all levels; the further ones learn it in the background."""
        self.memory.keep(answer, seconds=settings.CACHE_TTL)
        spawn(self._keep_further(lookup, answer))

    async def _keep_further(self, lookup: Lookup, answer: CachedAnswer) -> None:
        if lookup.shelf is not None and not await lookup.shelf.is_current():
            # A document may have been deleted meanwhile, with all that was kept of it.
            await self.shared.release(lookup.key)
            return
        await self.shared.keep(answer, seconds=settings.CACHE_TTL)
        await self.shared.release(lookup.key)
        if lookup.partition:
            await semantic.keep(lookup.partition, lookup.question, answer.dumps(), settings.CACHE_TTL)

    async def counts(self) -> dict[str, int | None]:
        """How many answers each level holds; None for one that cannot be asked."""
        shared, alike = await asyncio.gather(self.shared.count(), semantic.counts())
        return {"l1": len(self.memory), "l2": shared if self.shared.enabled else 0, "l3": alike}


answer_cache = AnswerCache()


async def clear_cache() -> None:
    """No answer that was kept before is told by any process any more, once this has returned.

    Every key holds the number of clearings, so the old answers are out of reach even where a store could not
    be asked to delete them. The other processes learn of the new number within `MOST_SECONDS`.
    """
    await database_sync_to_async(Version.objects.bump)(Version.CACHE)
    answer_cache.memory.forget()
    await asyncio.gather(answer_cache.shared.forget(), semantic.clear(), asyncio.sleep(MOST_SECONDS))
