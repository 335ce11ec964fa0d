"""Single flight: of equal questions at the same time one is put to a model, and all follow its answer.

The call belongs to none of them. Whoever leaves leaves the others to it, and with the last one it ends; who
reads slowly keeps nobody waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any

from inference.cache.answers import CachedAnswer
from inference.cache.shared import LEASE_SECONDS, SharedCache
from inference.providers.base import Finished, TextDelta
from llmsite.core.background import spawn

POLL_SECONDS = 0.1
"""How often a process looks whether another one has the answer by now."""
WAIT_SECONDS = 5.0
"""How long it looks: of an answer that is made elsewhere nothing is seen before its end."""

Take = Callable[[Any], None]
"""Takes the next event of an answer, at once. It neither waits nor raises."""


class Flight:
    """An answer that is being made here, piece by piece, for everybody aboard."""

    def __init__(self, work: Callable[[Take], Awaitable[None]], on_end: Callable[[], None]) -> None:
        self._events: list[Any] = []
        """So far; a piece of the text as that text, which costs less to keep (inference.event_log)."""
        self._error: Exception | None = None
        self._is_over = False
        self._aboard = 0
        self._takers: dict[asyncio.Future[None], Take] = {}
        """Who takes the events, by what tells them that there are no more."""
        self._on_end = on_end
        self._carrier = spawn(self._carry(work))

    def board(self) -> None:
        """Be counted from now on, until `leave`."""
        self._aboard += 1

    async def follow(self, take: Take) -> None:
        """Give `take` the events from the first, for one who has boarded. Raises what ended them.

        Each is handed on in the turn of the loop in which it comes, so that a reader costs no wake-up.
        """
        for event in self._events:
            take(TextDelta(event) if isinstance(event, str) else event)
        if not self._is_over:
            end = asyncio.get_running_loop().create_future()
            self._takers[end] = take
            try:
                await end
            finally:
                self._takers.pop(end, None)
        if self._error is not None:
            # The same error for all; without the way it took to those before.
            raise self._error.with_traceback(None)

    async def leave(self) -> None:
        """Be counted no longer. With the last one the call ends."""
        self._aboard -= 1
        if self._aboard or self._is_over:
            return
        self._on_end()  # First: who comes now must not find what is being given up.
        self._carrier.cancel()
        # Until the call is closed, upstream too.
        with suppress(asyncio.CancelledError):
            await asyncio.wait([self._carrier])

    async def _carry(self, work: Callable[[Take], Awaitable[None]]) -> None:
        try:
            await work(self._take)
        except Exception as error:
            if self._is_over:
                raise  # All have their answer; this is a fault of ours behind it.
            self._error = error
        finally:
            self._end()

    def _take(self, event: Any) -> None:
        is_text = isinstance(event, TextDelta) and event.prompt_tokens is None
        self._events.append(event.text if is_text else event)
        for end, take in self._takers.items():
            if not end.done():  # Who is leaving takes no more.
                take(event)
        if isinstance(event, Finished):
            self._end()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._on_end()
        for end in self._takers:
            if not end.done():
                end.set_result(None)


class Flights:
    """The flights of this process; by way of level 2 it knows of those of other processes."""

    def __init__(self, shared: SharedCache) -> None:
        self._shared = shared
        self._flights: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def board(self, key: Hashable) -> Flight | None:
        """The flight of `key`, with the caller aboard; None where there is none."""
        flight = self._flights.get(key)
        if flight is not None:
            flight.board()
        return flight

    def depart(self, key: Hashable, work: Callable[[Take], Awaitable[None]]) -> Flight:
        """A new flight that carries what `work` makes, with the caller aboard."""
        flight = self._flights[key] = Flight(work, lambda: self._forget(key, flight))
        flight.board()
        return flight

    def _forget(self, key: Hashable, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def answer_of_another_process(self, key: str) -> CachedAnswer | None:
        """Wait a little while another process makes the answer; None where this one is to make it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + WAIT_SECONDS
        while self._shared.enabled:
            is_ours = await self._shared.claim(key)
            # After the claim: whoever had it before may have come to the end since.
            if (answer := await self._shared.find(key)) is not None:
                if is_ours:
                    await self._shared.release(key)
                return answer
            if is_ours or clock() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def keep_claim(self, key: str) -> None:
        """Renew the claim until cancelled."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._shared.renew(key)
