"""Single flight: of equal questions at the same time one is put to a model, and all follow its answer."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from inference.cache.answers import CachedAnswer
from inference.cache.shared import LEASE_SECONDS, SharedCache
from inference.fallback import Answering
from inference.providers.base import Finished, ProviderEvent
from llmsite.core.errors import SiteError, UpstreamCut

POLL_SECONDS = 0.1
"""How often a process looks whether another one has the answer by now."""
WAIT_SECONDS = 5.0
"""How long it looks: of an answer that is made elsewhere nothing is seen before its end."""


class GivenUp(Exception):
    """The flight ended before its first piece, and without an error: one of those who waited may set out."""


class Flight:
    """An answer that is being made here, piece by piece, for everybody who follows."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.is_kept = False
        """Whether the whole answer has gone to the cache."""
        self._events: list[Answering | ProviderEvent] = []
        self._error: SiteError | None = None
        self._is_over = False
        self._news: asyncio.Event | None = None

    def tell(self, event: Answering | ProviderEvent) -> None:
        self._events.append(event)
        self._wake()

    def end(self, error: SiteError | None = None) -> None:
        self._is_over, self._error = True, error
        self._wake()

    async def follow(self) -> AsyncGenerator[Answering | ProviderEvent, None]:
        """The events from the first, as they come. Raises the flight's SiteError, or GivenUp."""
        at = 0
        while True:
            while at < len(self._events):
                yield self._events[at]
                at += 1
            if self._is_over:
                break
            self._news = self._news or asyncio.Event()
            await self._news.wait()
        if self._error is not None:
            raise self._error
        if not self._events:
            raise GivenUp
        if not isinstance(self._events[-1], Finished):
            raise UpstreamCut(provider=_provider(self._events[0]), detail="who asked first has left")

    def _wake(self) -> None:
        # Nearly always nobody follows, and a piece costs no more than its place in a list.
        if self._news is not None:
            self._news.set()
            self._news = None


def _provider(event: Answering | ProviderEvent) -> str:
    return event.candidate.model.provider if isinstance(event, Answering) else ""


class Flights:
    """The flights of this process; by way of level 2 it knows of those of other processes."""

    def __init__(self, shared: SharedCache) -> None:
        self._shared = shared
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def find(self, key: str) -> Flight | None:
        return self._flights.get(key)

    @contextmanager
    def depart(self, key: str) -> Iterator[Flight]:
        """Make the answer of `key` in the name of all who ask for it; within, `tell` it."""
        flight = self._flights[key] = Flight(key)
        failure: SiteError | None = None
        try:
            yield flight
        except SiteError as error:
            failure = error
            raise
        finally:
            # First, so that who is woken by its end finds the next one or none.
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.end(failure)

    async def answer_of_another_process(self, key: str) -> CachedAnswer | None:
        """Wait a little while another process makes the answer; None where this one is to make it."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while self._shared.enabled:
            is_ours = await self._shared.claim(key)
            # After the claim: whoever had it before may have come to the end since.
            if (answer := await self._shared.find(key)) is not None:
                if is_ours:
                    await self._shared.release(key)
                return answer
            if is_ours or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def keep_claim(self, key: str) -> None:
        """Renew the claim until cancelled."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._shared.renew(key)
