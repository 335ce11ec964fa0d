"""Deadlines and a last bound on the length, as a wrapper around any provider."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import structlog

from inference.providers.base import (
    ChatMessage,
    ChatProvider,
    ChatRequest,
    Finished,
    ProviderEvent,
    Take,
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

    async def stream(self, request: ChatRequest, take: Take) -> None:
        room = SPARE_CHARACTERS + CHARACTERS_PER_TOKEN * request.max_tokens
        call = _Call(self.name, self._timeouts, room, take)
        with closing(call), call.explained():
            await self._provider.stream(request, call.take)
        if call.is_too_long:
            log.warning("answer_without_end", provider=self.name, max_tokens=request.max_tokens)
            take(Finished("length", None))

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        try:
            async with asyncio.timeout(self._timeouts.first_token):
                return await self._provider.count_tokens(model, messages)
        except TimeoutError:
            raise ProviderTimeout(provider=self.name, phase="first_token") from None

    async def aclose(self) -> None:
        await self._provider.aclose()


class _Call:
    """What has come of one call, the room that is left, and the deadline of what comes next."""

    def __init__(self, provider: str, timeouts: Timeouts, room: int, take: Take) -> None:
        self.is_too_long = False
        self._provider = provider
        self._room = room
        self._take = take
        self._characters = Characters()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock() + timeouts.total
        self._deadline = self._clock() + timeouts.first_token
        self._idle_seconds = timeouts.idle
        self._has_begun = False
        self._patience = Patience()
        self._watch = Watch()

    def close(self) -> None:
        self._patience.close()
        self._watch.close()

    def take(self, event: ProviderEvent) -> None:
        """Hand on what is whole of `event`, as long as there is room."""
        self._deadline = self._clock() + self._idle_seconds
        self._patience.put_off(min(self._deadline, self._last))
        if not self._has_begun:
            self._has_begun = True
            self._watch.close()
        for piece in self._characters.whole(event):
            self._room -= _length(piece)
            if self._room < 0:
                self.is_too_long = True
                self._patience.end()
                return
            self._take(piece)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Ends the block at its deadline. Raises ProviderTimeout with what was late."""
        try:
            with self._patience.until(min(self._deadline, self._last)):
                yield
        except TimeoutError:
            if not self.is_too_long:
                raise ProviderTimeout(provider=self._provider, phase=self._late_phase()) from None
        except ProviderTimeout as error:
            if error.data.get("phase") == "connect" and self._watch.was_late:
                raise ProviderBusy(provider=self._provider, phase="connect") from None
            raise

    def _late_phase(self) -> str:
        if self._last <= self._deadline:
            return "total"
        return "idle" if self._has_begun else "first_token"


def _length(event: ProviderEvent) -> int:
    """The characters that an event adds to the answer."""
    if isinstance(event, TextDelta):
        return len(event.text)
    return len(event.arguments) + len(event.name) if isinstance(event, ToolCallDelta) else 0
