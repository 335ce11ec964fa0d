"""The events of running answers, kept so that a reader can come late, leave and come back.

Each process keeps the events of the answers it writes. Another process reads them from the
mirror in Redis where there is one, else from the row, which is at most half a second behind.
"""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

from inference.events import Delta, Event, Numbered, is_last

KEEP_SECONDS = 60.0
"""How long a finished log stays in memory; later readers get the same events from the row."""


class EventLog:
    """The events of one answer, in order.

    A piece of the text is kept as that text. Python looks at each object that it has kept again and again to
    find garbage, but never at a string: with objects, 200 streams stood still for 0.1 s now and then.
    """

    def __init__(self, generation_id: UUID) -> None:
        self.generation_id = generation_id
        self.ended = False
        self._kept: list[str | Event] = []
        self._name = str(generation_id)
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, event: Event) -> None:
        self._kept.append(event.text if isinstance(event, Delta) else event)
        self.ended = is_last(event)
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for reader in waiting:
                _wake(reader)

    def newest(self) -> Numbered:
        return self.behind(len(self._kept) - 1)[0]

    def behind(self, position: int) -> list[Numbered]:
        """The events from `position` on."""
        return [
            Numbered(self._name, seq, Delta(kept) if isinstance(kept, str) else kept)
            for seq, kept in enumerate(self._kept[position:], position)
        ]

    async def follow(self, after: int, *, tick: float) -> AsyncGenerator[list[Numbered], None]:
        """The events behind number `after`, to the end: all that are there at a time, together.

        An empty list about every `tick` seconds that bring none.
        """
        position = after + 1
        with _Ticks(tick) as ticks:
            while True:
                if position < len(self._kept):
                    ready = self.behind(position)
                    position += len(ready)
                    yield ready
                    continue  # What came while the reader was busy with these waits for nobody.
                if self.ended:
                    return
                waiter = ticks.new_waiter()
                self._waiting.add(waiter)
                await waiter
                self._waiting.discard(waiter)
                if position == len(self._kept):
                    yield []


class _Ticks:
    """Wakes a reader that waits, every `seconds`.

    One timer serves all its waits: one for each would cost more than the event that it waits for.
    """

    def __init__(self, seconds: float) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> "_Ticks":
        self._timer = self._loop.call_later(self._seconds, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def new_waiter(self) -> "asyncio.Future[None]":
        self._waiter = self._loop.create_future()
        return self._waiter

    def _tick(self) -> None:
        if self._waiter is not None:
            _wake(self._waiter)
        self._timer = self._loop.call_later(self._seconds, self._tick)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


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
