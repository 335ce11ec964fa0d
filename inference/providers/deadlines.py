"""Deadlines and a last bound on the length, as a wrapper around any provider."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager

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
from inference.providers.characters import Characters
from llmsite.core.errors import ProviderBusy, ProviderTimeout
from llmsite.core.lateness import Watch
from llmsite.core.patience import Patience

log = structlog.get_logger("llmsite.providers")

CHARACTERS_PER_TOKEN = 32
SPARE_CHARACTERS = 4096
"""A token has about four characters, and single ones up to a hundred. A server whose answer is longer than
this for each token it may write has lost its end."""


class Deadlines(ChatProvider):
    """Ends a call that is too slow: to its first piece, between two pieces, or as a whole.

    And one that goes on far beyond the tokens that were asked for, as the provider should have done: with
    the end `length`, and without a count of tokens. What is no character is replaced on the way.

    The deadline to connect is the wrapped provider's own, because only it knows when it is connected. Where
    our own event loop was late meanwhile, missing it is our fault (ProviderBusy, phase: connect).
    """

    def __init__(self, provider: ChatProvider, timeouts: Timeouts) -> None:
        self.name = provider.name
        self.parameters = provider.parameters
        self.is_greedy = provider.is_greedy
        self._provider = provider
        self._timeouts = timeouts

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ProviderEvent, None]:
        room = SPARE_CHARACTERS + CHARACTERS_PER_TOKEN * request.max_tokens
        characters = Characters()
        async with aclosing(self._provider.stream(request)) as events:
            with closing(_Waiting(self.name, self._timeouts)) as waiting, waiting.explained():
                while True:
                    try:
                        with waiting.for_next():
                            event = await anext(events)
                    except StopAsyncIteration:
                        return
                    waiting.has_come()
                    for piece in characters.whole(event):
                        room -= _length(piece)
                        if room < 0:
                            tokens = request.max_tokens
                            log.warning("answer_without_end", provider=self.name, max_tokens=tokens)
                            yield Finished("length", None)
                            return
                        yield piece

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        try:
            async with asyncio.timeout(self._timeouts.first_token):
                return await self._provider.count_tokens(model, messages)
        except TimeoutError:
            raise ProviderTimeout(provider=self.name, phase="first_token") from None

    async def aclose(self) -> None:
        await self._provider.aclose()


class _Waiting:
    """The deadlines of one call's events."""

    def __init__(self, provider: str, timeouts: Timeouts) -> None:
        self._provider = provider
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() + timeouts.total
        self._deadline = self._last
        self._phase, self._seconds = "first_token", timeouts.first_token
        self._idle_seconds = timeouts.idle
        self._patience = Patience()
        self._watch = Watch()

    def close(self) -> None:
        self._patience.close()
        self._watch.close()

    def for_next(self) -> Patience:
        """The block that follows waits for the next event, until its deadline."""
        self._deadline = self._clock() + self._seconds
        return self._patience.until(min(self._deadline, self._last))

    def has_come(self) -> None:
        if self._phase == "first_token":
            self._phase, self._seconds = "idle", self._idle_seconds
            self._watch.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raises ProviderTimeout for a deadline that passed, with what was late."""
        try:
            yield
        except TimeoutError:
            missed = "total" if self._last <= self._deadline else self._phase
            raise ProviderTimeout(provider=self._provider, phase=missed) from None
        except ProviderTimeout as error:
            if error.data.get("phase") == "connect" and self._watch.was_late:
                raise ProviderBusy(provider=self._provider, phase="connect") from None
            raise


def _length(event: ProviderEvent) -> int:
    """The characters that an event adds to the answer."""
    if isinstance(event, TextDelta):
        return len(event.text)
    return len(event.arguments) + len(event.name) if isinstance(event, ToolCallDelta) else 0
