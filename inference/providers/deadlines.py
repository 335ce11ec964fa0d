"""Deadlines and a last bound on the length, as a wrapper around any provider."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing

import structlog

from inference.providers.base import (
    ChatMessage,
    ChatProvider,
    ChatRequest,
    Finished,
    ProviderEvent,
    TextDelta,
    Timeouts,
    ToolCallDelta,
)
from llmsite.core.errors import ProviderTimeout
from llmsite.core.patience import Patience

log = structlog.get_logger("llmsite.providers")

CHARACTERS_PER_TOKEN = 32
SPARE_CHARACTERS = 4096
"""A token has about four characters, and single ones up to a hundred. A server whose answer is longer than
this for each token it may write has lost its end."""


class Deadlines(ChatProvider):
    """Ends a call that is too slow: to its first piece, between two pieces, or as a whole.

    And one that goes on far beyond the tokens that were asked for, as the provider should have done: with
    the end `length`, and without a count of tokens.

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
        room = SPARE_CHARACTERS + CHARACTERS_PER_TOKEN * request.max_tokens
        events = self._provider.stream(request)
        async with aclosing(events):
            with closing(Patience()) as patience:
                while True:
                    next_deadline = clock() + seconds
                    try:
                        with patience.until(min(next_deadline, last)):
                            event = await anext(events, None)
                    except TimeoutError:
                        missed = "total" if last <= next_deadline else phase
                        raise ProviderTimeout(provider=self.name, phase=missed) from None
                    if event is None:
                        return
                    room -= _length(event)
                    if room < 0:
                        log.warning("answer_without_end", provider=self.name, max_tokens=request.max_tokens)
                        yield Finished("length", None)
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


def _length(event: ProviderEvent) -> int:
    """The characters that an event adds to the answer."""
    if isinstance(event, TextDelta):
        return len(event.text)
    return len(event.arguments) + len(event.name) if isinstance(event, ToolCallDelta) else 0
