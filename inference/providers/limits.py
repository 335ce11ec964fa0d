"""How many calls to a provider run and wait at once, as a wrapper around any provider.

A provider that becomes slow must not gather calls until the process is full of them: so many run, so many
wait for a place, and the next one is refused at once; so is, after a while, one that waits in vain. None of
this is the provider's doing. It is counted for each event loop, of which a web process has one.
"""

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from inference.providers.base import ChatMessage, ChatProvider, ChatRequest, Take
from llmsite.core.errors import ProviderBusy


class Places:
    """So many places, and a queue of callers that wait for one."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self.free = asyncio.Semaphore(running)
        self._may_wait = waiting
        self._waiting = 0

    async def take(self, *, seconds: float) -> bool:
        """Wait for a place, which is given back with `free.release()`.

        False where the queue is full, or no place becomes free within `seconds`.
        """
        if not self.free.locked():
            return await self.free.acquire()
        if self._waiting >= self._may_wait:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                return await self.free.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1  # Also where the caller leaves.


class Bounded(ChatProvider):
    """Runs at most `running` calls; `waiting` more wait for `seconds`, the rest is refused (ProviderBusy)."""

    def __init__(self, provider: ChatProvider, *, running: int, waiting: int, seconds: float) -> None:
        self.name = provider.name
        self.parameters = provider.parameters
        self.is_greedy = provider.is_greedy
        self._provider = provider
        self._running = running
        self._waiting = waiting
        self._seconds = seconds
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = WeakKeyDictionary()

    async def stream(self, request: ChatRequest, take: Take) -> None:
        places = self._places_here()
        if not await places.take(seconds=self._seconds):
            raise ProviderBusy(provider=self.name)
        try:
            await self._provider.stream(request, take)
        finally:
            places.free.release()

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        return await self._provider.count_tokens(model, messages)

    async def aclose(self) -> None:
        await self._provider.aclose()

    def _places_here(self) -> Places:
        loop = asyncio.get_running_loop()
        if loop not in self._places:
            self._places[loop] = Places(running=self._running, waiting=self._waiting)
        return self._places[loop]
