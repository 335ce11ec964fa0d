"""The events of running answers, kept so that a reader can come late, leave and come back.

Each process keeps the events of the answers it writes. Another process reads them from the
mirror in Redis where there is one, else from the row, which is at most half a second behind.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from uuid import UUID

from inference.events import Delta, Event, Numbered, is_last

AtOnce = Callable[[Numbered], bool]
"""Is offered the next event while its reader waits; whether it has taken it."""
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
        self._waiting: set[_Reader] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, event: Event) -> None:
        self._kept.append(event.text if isinstance(event, Delta) else event)
        self.ended = is_last(event)
        for reader in tuple(self._waiting):
            if self.ended or not reader.takes_at_once(self):
                self._waiting.discard(reader)
                reader.wake()

    def newest(self) -> Numbered:
        kept, seq = self._kept[-1], len(self._kept) - 1
        return Numbered(self._name, seq, Delta(kept) if isinstance(kept, str) else kept)

    def behind(self, position: int) -> list[Numbered]:
        """The events from `position` on."""
        return [
            Numbered(self._name, seq, Delta(kept) if isinstance(kept, str) else kept)
            for seq, kept in enumerate(self._kept[position:], position)
        ]

    async def follow(
        self, after: int, *, tick: float, at_once: AtOnce | None = None
    ) -> AsyncGenerator[list[Numbered], None]:
        """The events behind number `after`, to the end: all that are there at a time, together.

        An empty list about every `tick` seconds that bring none. While it waits, an event that `at_once`
        takes is not given again; the last one never goes that way.
        """
        with _Reader(after + 1, at_once, tick) as reader:
            while True:
                if reader.position < len(self._kept):
                    ready = self.behind(reader.position)
                    reader.position += len(ready)
                    yield ready
                    continue  # What came while the reader was busy with these waits for nobody.
                if self.ended:
                    return
                self._waiting.add(reader)
                try:
                    await reader.wait()
                finally:
                    self._waiting.discard(reader)
                if reader.position == len(self._kept):
                    yield []


class _Reader:
    """One who follows a log: how far they are, and what wakes them, every `seconds` at least.

    One timer serves all waits: one for each would cost more than the event that is waited for.
    """

    def __init__(self, position: int, at_once: AtOnce | None, seconds: float) -> None:
        self.position = position
        self._at_once = at_once
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> "_Reader":
        self._timer = self._loop.call_later(self._seconds, self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def takes_at_once(self, log: EventLog) -> bool:
        """Whether they have taken the newest event of `log` without being woken for it."""
        if self._at_once is None or not self._at_once(log.newest()):
            return False
        self.position += 1
        return True

    def wait(self) -> "asyncio.Future[None]":
        self._waiter = self._loop.create_future()
        return self._waiter

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tick(self) -> None:
        self.wake()
        self._timer = self._loop.call_later(self._seconds, self._tick)


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
