"""Deadlines, as a wrapper around any provider."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from inference.providers.base import ChatMessage, ChatProvider, ChatRequest, ProviderEvent, Timeouts
from llmsite.core.errors import ProviderTimeout


class Deadlines(ChatProvider):
    """Ends a call that is too slow: to its first piece, between two pieces, or as a whole.

    The deadline to connect is the wrapped provider's own, because only it knows when it is connected.
    """

    def __init__(self, provider: ChatProvider, timeouts: Timeouts) -> None:
        self.name = provider.name
        self.parameters = provider.parameters
        self.is_greedy = provider.is_greedy
        self._provider = provider
        self._timeouts = timeouts

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ProviderEvent, None]:
        clock = asyncio.get_running_loop().time
        last = clock() + self._timeouts.total
        seconds, phase = self._timeouts.first_token, "first_token"
        events = self._provider.stream(request)
        async with aclosing(events):
            while True:
                next_deadline = clock() + seconds
                try:
                    async with asyncio.timeout_at(min(next_deadline, last)):
                        event = await anext(events, None)
                except TimeoutError:
                    missed = "total" if last <= next_deadline else phase
                    raise ProviderTimeout(provider=self.name, phase=missed) from None
                if event is None:
                    return
                yield event
                seconds, phase = self._timeouts.idle, "idle"

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        try:
            async with asyncio.timeout(self._timeouts.first_token):
                return await self._provider.count_tokens(model, messages)
        except TimeoutError:
            raise ProviderTimeout(provider=self.name, phase="first_token") from None

    async def aclose(self) -> None:
        await self._provider.aclose()
