"""Answers from the cache to programs: told at once, and written down in batches behind them.

A question that stands in no conversation of a page, and whose answer is in the cache, waits for no row. Its
rows are those of any other answer, and are written together with those of other hits, at most
`FLUSH_SECONDS` later: that is what a process that is killed can lose, and the calls were free.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import structlog
from channels.db import database_sync_to_async
from django.db import Error as DatabaseFailure
from django.utils import timezone

from inference.ask import Ask
from inference.cache.levels import Hit
from inference.events import Delta, Event, Finished, Started
from inference.hit_rows import write
from inference.question import Question
from llmsite.core.background import spawn
from llmsite.core.ids import new_uuid

log = structlog.get_logger("llmsite.hits")

FLUSH_SECONDS = 0.25
BATCH = 500
"""So many are written in one transaction; who wants to add to a queue of ten batches waits."""
MOST_WAITING = 10 * BATCH
TRIES = 20


def may_be_quick(ask: Ask) -> bool:
    """Whether nobody can look for the rows of this question as soon as it is answered."""
    return ask.conversation is None and ask.idempotency is None and not ask.listed


class QuickHit:
    """One question that the cache has answered, and the ids that its rows will have."""

    def __init__(self, question: Question, hit: Hit) -> None:
        self.question = question
        self.hit = hit
        self.conversation_id: UUID = new_uuid()
        self.question_id: UUID = new_uuid()
        self.message_id: UUID = new_uuid()
        self.generation_id: UUID = new_uuid()
        self.asked_at: datetime = timezone.now()
        self.latency_ms = round((time.monotonic() - question.began) * 1000)

    async def note(self) -> None:
        """Have the rows written soon."""
        await hit_writer.add(self)

    @property
    def started(self) -> Started:
        return Started(
            generation=str(self.generation_id),
            conversation=str(self.conversation_id),
            message=str(self.message_id),
            model=self.question.model.alias,
            provider=self.question.model.provider,
            cache=self.hit.level,
        )

    @property
    def finished(self) -> Finished:
        answer = self.hit.answer
        return Finished(
            finish_reason=answer.finish_reason,
            usage={"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
            cost="0",
            latency_ms=self.latency_ms,
            time_to_first_token_ms=self.latency_ms,
            cache=self.hit.level,
            context_trimmed=self.question.context_trimmed,
            dropped_parameters=list(self.question.dropped_parameters),
        )

    def events(self) -> Iterator[Event]:
        """The same events as of any other answer, in the pieces in which it once came."""
        yield self.started
        for piece in self.hit.answer.pieces():
            yield Delta(piece)
        yield self.finished


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
