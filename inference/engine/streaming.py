"""The bridge between the engine's thread and the event loop."""

import asyncio
from collections.abc import AsyncIterator

from inference.engine.scheduler import Event, Generation, Piece, Scheduler


class AnswerStream:
    """One answer's events, for a coroutine. It begins at once; `close` cancels what is unfinished.

    The constructor raises QueueFull or SchedulerClosed.
    """

    def __init__(self, scheduler: Scheduler, generation: Generation) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._scheduler = scheduler
        self._job = scheduler.submit(generation, self._report)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._events.get()
            yield event
            if not isinstance(event, Piece):
                return

    def close(self) -> None:
        """Free the answer's row before its next token. Harmless after the end."""
        self._scheduler.cancel(self._job)

    def _report(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:
            return  # The loop is closed: the server has stopped, and nobody listens any more.
