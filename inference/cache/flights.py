"""Single flight: of equal questions that are asked at once, one is answered, and the others take its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inference.cache.answers import CachedAnswer
from inference.cache.shared import LEASE_SECONDS, SharedCache
from llmsite.core.errors import SiteError

POLL_SECONDS = 0.1
"""How often a process looks whether another one has the answer by now."""


class Flight:
    """An answer that is being made here, for everybody who waits for it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._landing: asyncio.Future[CachedAnswer | None] = asyncio.get_running_loop().create_future()

    def land(self, answer: CachedAnswer | None) -> None:
        """Give those who wait the answer; None where there is none to share."""
        if not self._landing.done():
            self._landing.set_result(answer)

    def fail(self, error: SiteError) -> None:
        """What failed before its first piece would fail for the others too."""
        if not self._landing.done():
            self._landing.set_exception(error)
            self._landing.exception()  # Also where nobody waits, it has been looked at.

    async def wait(self) -> CachedAnswer | None:
        """Raises the SiteError of the flight."""
        return await asyncio.shield(self._landing)


class Flights:
    """The flights of this process; by way of level 2 it knows of those of other processes."""

    def __init__(self, shared: SharedCache) -> None:
        self._shared = shared
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def answer_of_another(self, key: str) -> CachedAnswer | None:
        """Wait while an equal question is being answered. None where the caller is to answer it itself.

        Raises the SiteError with which the other one failed.
        """
        while (flight := self._flights.get(key)) is not None:
            if (answer := await flight.wait()) is not None:
                return answer
            if self._flights.get(key) is flight:
                return None
            # It was given up, and of those who waited another one has set out meanwhile.
        return None

    @asynccontextmanager
    async def depart(self, key: str) -> AsyncIterator[Flight]:
        """Make the answer of `key` in the name of all who ask for it; within, call `land` or `fail`."""
        flight = self._flights[key] = Flight(key)
        try:
            yield flight
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.land(None)

    async def answer_of_another_process(self, key: str) -> CachedAnswer | None:
        """Wait while another process makes the answer. None where this one has claimed it."""
        while self._shared.enabled:
            is_ours = await self._shared.claim(key)
            # After the claim: whoever had it before may have come to the end since.
            if (answer := await self._shared.find(key)) is not None:
                if is_ours:
                    await self._shared.release(key)
                return answer
            if is_ours:
                break
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def keep_claim(self, key: str) -> None:
        """Renew the claim until cancelled."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._shared.renew(key)
