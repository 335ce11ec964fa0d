"""Short forms for the tests of the providers."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

from inference.providers.base import (
    ChatMessage,
    ChatProvider,
    ChatRequest,
    Finished,
    ProviderEvent,
    TextDelta,
)


def a_request(prompt: str = "What is the capital of France?", **values: Any) -> ChatRequest:
    messages = (ChatMessage("system", "You are brief."), ChatMessage("user", prompt))
    return ChatRequest(**{"model": "stand-in", "messages": messages, "max_tokens": 100, **values})


def stream(provider: ChatProvider, request: ChatRequest | None = None) -> AsyncGenerator[Any, None]:
    """The events of an answer one by one; closing cancels the call."""
    return pulled(partial(provider.stream, request or a_request()))


async def pulled(work: Callable[[Callable[[Any], object]], Awaitable[None]]) -> AsyncGenerator[Any, None]:
    """What `work` gives to the function it is called with; closing cancels it."""
    given: asyncio.Queue[Any] = asyncio.Queue()
    over = object()
    working = asyncio.ensure_future(work(given.put_nowait))
    working.add_done_callback(lambda _: given.put_nowait(over))
    try:
        while (event := await given.get()) is not over:
            yield event
        await working
    finally:
        working.cancel()
        await asyncio.wait([working])


async def collect(provider: ChatProvider, request: ChatRequest | None = None) -> list[ProviderEvent]:
    events: list[ProviderEvent] = []
    await provider.stream(request or a_request(), events.append)
    return events


async def collect_until_error(
    provider: ChatProvider, request: ChatRequest | None = None
) -> tuple[list[ProviderEvent], Exception | None]:
    """What came before the error, and the error; None where there was none."""
    events: list[ProviderEvent] = []
    try:
        await provider.stream(request or a_request(), events.append)
    except Exception as error:
        return events, error
    return events, None


def text_of(events: list[ProviderEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[ProviderEvent]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]
