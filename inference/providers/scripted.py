"""Answers by a script, for tests and demos. Needs no key and no model.

The next script that was queued with `play` decides how a call goes, else the one in `SCRIPTS` that
has the name of the model (which also works from another process), else the default: an answer that
depends on the prompt alone.

    scripted.play(Script(pieces=("Hel", "lo")), Script(error=ProviderUnavailable(provider="scripted")))
    …
    assert scripted.calls[-1].outcome == "failed"
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Literal

from inference.providers.base import (
    ALL_PARAMETERS,
    ChatMessage,
    ChatProvider,
    ChatRequest,
    Finished,
    FinishReason,
    Take,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from inference.providers.words import words
from llmsite.core.errors import ProviderUnavailable, SiteError, UpstreamCut

KEPT_CALLS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How one call goes: the pieces, each after `delay` seconds, and then the end."""

    pieces: tuple[str, ...] | None = None
    """None stands for the default answer."""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    """Pieces of calls of the caller's functions, which follow those of the text."""
    delay: float = 0.0
    repeat: bool = False
    """Whether the pieces start again for ever."""
    hang: bool = False
    """Whether nothing follows the pieces: no end and no error."""
    error: SiteError | None = None
    """Raised after the pieces."""
    finish_reason: FinishReason = "stop"
    usage: Usage | None = None
    """None stands for the words that were counted."""
    reports_usage: bool = True


@dataclass(slots=True)
class Call:
    """One call that was made. A call that was stopped from outside is `closed`."""

    request: ChatRequest
    pieces: int = 0
    outcome: Literal["running", "finished", "failed", "closed"] = "running"


_LONG = tuple(words("The quick brown fox jumps over the lazy dog. " * 20))

SCRIPTS: dict[str, Script] = {
    "slow": Script(delay=0.1),
    "long": Script(pieces=_LONG, delay=0.02),
    "endless": Script(pieces=_LONG, delay=0.02, repeat=True),
    "silent": Script(pieces=(), hang=True),
    "hangs": Script(pieces=("One", " two", " three"), hang=True),
    "cut": Script(pieces=("One", " two", " three"), error=UpstreamCut(provider="scripted")),
    "unavailable": Script(pieces=(), error=ProviderUnavailable(provider="scripted")),
}

calls: deque[Call] = deque(maxlen=KEPT_CALLS)
_queue: deque[Script] = deque()


def play(*scripts: Script) -> None:
    """Queue `scripts` for the next calls of this process, in order."""
    _queue.extend(scripts)


def reset() -> None:
    """Forget the queue and the calls."""
    _queue.clear()
    calls.clear()


class ScriptedProvider(ChatProvider):
    """One word is one token. It takes every parameter, and keeps to its script whatever they say."""

    name = "scripted"
    parameters = ALL_PARAMETERS

    @classmethod
    def from_settings(cls) -> "ScriptedProvider":
        return cls()

    async def stream(self, request: ChatRequest, take: Take) -> None:
        script = _queue.popleft() if _queue else SCRIPTS.get(request.model, Script())
        call = Call(request)
        calls.append(call)
        try:
            async for piece in _pieces(script, request):
                call.pieces += 1
                take(TextDelta(piece) if isinstance(piece, str) else piece)
            call.outcome = "finished"
            take(Finished(script.finish_reason, await self._usage(script, call)))
        except SiteError:
            call.outcome = "failed"
            raise
        finally:
            if call.outcome == "running":
                call.outcome = "closed"

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        return [len(words(message.content)) for message in messages]

    async def _usage(self, script: Script, call: Call) -> Usage | None:
        if not script.reports_usage:
            return None
        sizes = await self.count_tokens(call.request.model, call.request.messages)
        return script.usage or Usage(sum(sizes), call.pieces)


async def _pieces(script: Script, request: ChatRequest) -> AsyncIterator[str | ToolCallDelta]:
    text = words(default_answer(request)) if script.pieces is None else script.pieces
    pieces: list[str | ToolCallDelta] = [*text, *script.tool_calls]
    for piece in cycle(pieces) if script.repeat else chain(pieces):
        await asyncio.sleep(script.delay)
        yield piece
    if script.hang:
        await asyncio.get_running_loop().create_future()
    if script.error:
        raise script.error


def default_answer(request: ChatRequest) -> str:
    """An answer that is the same for the same conversation, and differs for any other."""
    turns = "\n".join(f"{message.role}: {message.content}" for message in request.messages)
    fingerprint = hashlib.sha256(turns.encode()).hexdigest()[:12]
    return f"This is a scripted answer. It belongs to the conversation with the fingerprint {fingerprint}."
