"""The rows of quick hits, written in batches behind the answers.

They are those of any other answer, at most `FLUSH_SECONDS` later: that is what a process that is killed can
lose, and the calls were free.
"""

import asyncio

import structlog
from channels.db import database_sync_to_async
from django.db import Error as DatabaseFailure

from inference.hit_rows import write
from inference.hits import QuickHit
from llmsite.core.background import spawn

log = structlog.get_logger("llmsite.hits")

FLUSH_SECONDS = 0.25
BATCH = 500
"""So many are written in one transaction; who wants to add to a queue of ten batches waits."""
MOST_WAITING = 10 * BATCH
TRIES = 20


class HitWriter:
    """Writes the rows of quick hits, some at a time."""

    def __init__(self) -> None:
        self._waiting: list[QuickHit] = []
        self._writing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

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

    def forget(self) -> None:
        """Write nothing of what waits; for tests."""
        self._waiting.clear()

    def _is_writing(self) -> bool:
        task = self._writing
        # A task of a loop that has ended will never go on.
        return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()

    async def _write_soon(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            await self._write(batch)
            if len(self._waiting) < BATCH:
                await asyncio.sleep(FLUSH_SECONDS if self._waiting else 0)

    async def _write(self, batch: list[QuickHit]) -> None:
        for _ in range(TRIES):
            try:
                await database_sync_to_async(write)(batch)
            except DatabaseFailure as error:
                log.warning("hits_not_written", hits=len(batch), error=repr(error))
                await asyncio.sleep(FLUSH_SECONDS)
            else:
                return
        log.error("hits_lost", hits=len(batch))


hit_writer = HitWriter()
