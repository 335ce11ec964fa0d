"""A copy of running answers' events in Redis streams, for readers that another process serves.

Writing goes through a queue and never makes an answer wait; without Redis, or while it is away,
readers elsewhere fall back to the row. An event's number is its stream id, so a reader's cursor
is the same everywhere.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from itertools import takewhile
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference.events import Delta, Numbered, from_dict, is_last
from llmsite.core.background import spawn

log = structlog.get_logger("llmsite.mirror")

KEEP_SECONDS = 600
SOCKET_SECONDS = 0.3
IDLE_SECONDS = 1.0
"""How long the writer keeps its connection while there is nothing to write."""
PAUSE_SECONDS = 1.0
"""How long the writer leaves a Redis alone that does not answer."""
_LAST_STREAM_ID = "0-18446744073709551615"
BATCH = 200
"""How many events a reader takes at once."""


class EventMirror:
    """Writes the events of this process, and reads those of others."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._queue: list[Numbered] = []
        self._news = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def is_on(self) -> bool:
        return bool(self._url)

    def append(self, numbered: Numbered) -> None:
        if not self.is_on:
            return
        if self._writer is None or self._writer.done():
            self._news, self._ending = asyncio.Event(), False
            self._writer = spawn(self._write())
        self._queue.append(numbered)
        self._news.set()

    async def flush(self) -> None:
        """Wait until all that was appended has been sent, or given up."""
        if self._writer is not None and not self._writer.done():
            self._ending = True
            self._news.set()
            await self._writer

    async def _write(self) -> None:
        """Send what gathers, many answers in one round trip, until nothing has come for a while."""
        async with self._connect() as redis:
            while await self._wait_for_news():
                batch, self._queue = self._queue, []
                try:
                    await _send(redis, batch)
                except RedisError as error:
                    # Readers elsewhere fall back to the row; the next batch tries Redis again.
                    log.warning("mirror_failed", error=str(error))
                    await asyncio.sleep(0 if self._ending else PAUSE_SECONDS)

    async def _wait_for_news(self) -> bool:
        if not self._queue and not self._ending:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._news.wait()
        return bool(self._queue)

    async def follow(
        self, generation_id: UUID, after: int, *, tick: float
    ) -> AsyncGenerator[Numbered | None, None]:
        """The mirrored events behind `after`, to the end; None whenever `tick` seconds bring none.

        It goes on without an end where nothing is mirrored; it ends where Redis cannot be reached.
        """
        if not self._url:
            return
        key = _key(generation_id)
        cursor: Any = _stream_id(after)
        try:
            async with self._connect(patience=tick) as redis:
                while True:
                    answer = await redis.xread({key: cursor}, count=BATCH, block=int(tick * 1000))
                    if not answer:
                        yield None
                        continue
                    for stream_id, fields in _entries(answer):
                        numbered = from_dict(json.loads(fields[b"event"]))
                        yield numbered
                        if is_last(numbered.event):
                            return
                        cursor = stream_id
        except RedisError as error:
            log.warning("mirror_failed", error=str(error))

    async def pieces(self, generation_id: UUID) -> list[str]:
        """The text of an answer in pieces, from its first one, as far as it was mirrored without a gap."""
        if not self._url:
            return []
        try:
            async with self._connect() as redis:
                entries: Any = await redis.xrange(_key(generation_id))
        except RedisError as error:
            log.warning("mirror_failed", error=str(error))
            return []
        events = [from_dict(json.loads(fields[b"event"])) for _, fields in entries]
        whole = takewhile(lambda pair: pair[0] == pair[1].seq, enumerate(events))
        return [numbered.event.text for _, numbered in whole if isinstance(numbered.event, Delta)]

    def forget(self, generation_ids: Iterable[UUID]) -> int:
        """Empty the mirror of these answers; returns how many had events in it. Raises RedisError.

        An emptied stream takes no further event, so that a writer that is late cannot bring any back.
        """
        if not self._url:
            return 0
        keys = [_key(generation_id) for generation_id in generation_ids]
        with SyncRedis.from_url(
            self._url, socket_connect_timeout=SOCKET_SECONDS, socket_timeout=SOCKET_SECONDS
        ) as redis:
            return sum(_seal(redis, keys[start : start + BATCH]) for start in range(0, len(keys), BATCH))

    def _connect(self, *, patience: float = 0.0) -> Redis:
        return Redis.from_url(
            self._url, socket_connect_timeout=SOCKET_SECONDS, socket_timeout=SOCKET_SECONDS + patience
        )


async def _send(redis: Redis, batch: list[Numbered]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for numbered in batch:
        event = numbered.as_json()
        pipeline.xadd(_key(numbered.generation), {"event": event}, id=_stream_id(numbered.seq))
    for generation in {numbered.generation for numbered in batch}:
        pipeline.expire(_key(generation), KEEP_SECONDS)
    await pipeline.execute()


def _seal(redis: SyncRedis, keys: list[str]) -> int:
    """Leave streams empty behind the highest of all ids, for as long as events are kept; how many had any."""
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.xlen(key)
        pipeline.xadd(key, {"event": ""}, id=_LAST_STREAM_ID, maxlen=0, approximate=False)
        pipeline.xlen(key)
        pipeline.expire(key, KEEP_SECONDS)
    # A stream that was emptied before refuses the id; what counts is that nothing is left.
    answers = pipeline.execute(raise_on_error=False)
    if any(answers[2::4]):
        raise RedisError("a stream could not be emptied")
    return sum(length > 0 for length in answers[::4])


def _entries(answer: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # One key was asked for; protocol 3 answers with a mapping, protocol 2 with pairs.
    streams = answer.values() if isinstance(answer, dict) else (pair[1] for pair in answer)  # type: ignore[attr-defined]
    entries = next(iter(streams))
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _key(generation_id: UUID | str) -> str:
    return f"llmsite:events:{generation_id}"


def _stream_id(seq: int) -> str:
    # Stream ids start at 0-1, event numbers at 0.
    return f"0-{seq + 1}"


event_mirror = EventMirror(settings.REDIS_URL)
