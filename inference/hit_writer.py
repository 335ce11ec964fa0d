"""The rows of quick hits, written in batches behind the answers.

They are those of any other answer, at most `FLUSH_SECONDS` later: that is what a process that is killed can
lose, and the calls were free.
"""

import asyncio
from uuid import UUID

import structlog

from inference.hit_rows import write
from inference.hits import QuickHit
from inference.models import Status
from llmsite.core.background import DatabaseThread, spawn
from llmsite.core.metrics import GENERATION_SECONDS, GENERATIONS

log = structlog.get_logger("llmsite.hits")

FLUSH_SECONDS = 0.25
BATCH = 500
"""So many are written in one transaction; who wants to add to a queue of ten batches waits."""
MOST_WAITING = 10 * BATCH
WAITS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 20.0)
"""Seconds between tries while the database is away: about a minute."""


class HitWriter:
    """Writes the rows of quick hits, some at a time."""

    def __init__(self) -> None:
        self._waiting: list[QuickHit] = []
        self._batch: list[QuickHit] = []
        self._writing: asyncio.Task[None] | None = None
        self._thread = DatabaseThread("hits")

    def __len__(self) -> int:
        return len(self._waiting) + len(self._batch)

    async def add(self, hit: QuickHit) -> None:
        """Have `hit` written soon; only where the database cannot follow, this waits for it."""
        self._waiting.append(hit)
        if not self._is_writing():
            self._writing = spawn(self._write_soon())
        while len(self._waiting) >= MOST_WAITING:  # noqa: ASYNC110 - a look now and then is enough
            await asyncio.sleep(FLUSH_SECONDS)

    async def flush(self) -> None:
        """Wait until all that was added is written."""
        while self._writing is not None and self._is_writing():
            await asyncio.shield(self._writing)

    async def written(self, pk: UUID) -> None:
        """Wait for the rows of a conversation, an answer or its message, if they are still to be written."""
        waiting = (*self._batch, *self._waiting)
        if any(pk in (hit.conversation_id, hit.generation_id, hit.message_id) for hit in waiting):
            await self.flush()

    def forget(self) -> None:
        """Write nothing of what waits; for tests."""
        self._waiting.clear()
        self._batch = []

    def _is_writing(self) -> bool:
        task = self._writing
        # A task of a loop that has ended will never go on.
        return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()

    async def _write_soon(self) -> None:
        while self._waiting:
            if len(self._waiting) < BATCH:
                await asyncio.sleep(FLUSH_SECONDS)
            self._batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            _count(self._batch)
            await self._write(self._batch)
            self._batch = []
            if not self._waiting:
                await self._thread.rest()

    async def _write(self, batch: list[QuickHit]) -> None:
        for wait in (*WAITS, None):
            try:
                await self._thread.run(write, batch)
            except Exception as error:
                log.warning("hits_not_written", hits=len(batch), error=repr(error), retry_in=wait)
                if wait is None:
                    log.exception("hits_lost", hits=len(batch))
                else:
                    await asyncio.sleep(wait)
            else:
                return


def _count(batch: list[QuickHit]) -> None:
    told: dict[tuple[str, str], list[int]] = {}
    for hit in batch:
        names = (hit.question.model.provider, hit.question.model.alias)
        told.setdefault(names, []).append(hit.latency_ms)
    for names, latencies in told.items():
        GENERATIONS.labels(*names, Status.FINISHED).inc(len(latencies))
        durations = GENERATION_SECONDS.labels(*names)
        for milliseconds in latencies:
            durations.observe(milliseconds / 1000)


hit_writer = HitWriter()
