"""The events of running answers, kept so that a reader can come late, leave and come back.

Each process keeps the events of the answers it writes. Another process reads them from the
mirror in Redis where there is one, else from the row, which is at most half a second behind.
"""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from inference.events import Event, Numbered, is_last

KEEP_SECONDS = 60.0
"""How long a finished log stays in memory; later readers get the same events from the row."""


class EventLog:
    """The events of one answer, in order."""

    def __init__(self, generation_id: UUID) -> None:
        self.generation_id = generation_id
        self.events: list[Numbered] = []
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        return bool(self.events) and is_last(self.events[-1].event)

    def append(self, event: Event) -> Numbered:
        numbered = Numbered(str(self.generation_id), len(self.events), event)
        self.events.append(numbered)
        self._news.set()
        self._news = asyncio.Event()
        return numbered

    async def follow(self, after: int, *, tick: float) -> AsyncIterator[Numbered | None]:
        """The events behind number `after`, to the end; None whenever `tick` seconds bring none."""
        position = after + 1
        while True:
            while position < len(self.events):
                yield self.events[position]
                position += 1
            if self.ended:
                return
            try:
                async with asyncio.timeout(tick):
                    await self._news.wait()
            except TimeoutError:
                yield None


class EventLogs:
    """The logs of this process."""

    def __init__(self) -> None:
        self._logs: dict[UUID, EventLog] = {}

    def open(self, generation_id: UUID) -> EventLog:
        log = self._logs[generation_id] = EventLog(generation_id)
        return log

    def find(self, generation_id: UUID) -> EventLog | None:
        return self._logs.get(generation_id)

    def close(self, log: EventLog) -> None:
        """Forget an ended log after a while."""
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self._logs.pop, log.generation_id, None)


event_logs = EventLogs()
