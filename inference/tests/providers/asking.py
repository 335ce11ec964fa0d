"""Short forms for the tests of the providers."""

from contextlib import aclosing
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


async def collect(provider: ChatProvider, request: ChatRequest | None = None) -> list[ProviderEvent]:
    async with aclosing(provider.stream(request or a_request())) as events:
        return [event async for event in events]


async def collect_until_error(
    provider: ChatProvider, request: ChatRequest | None = None
) -> tuple[list[ProviderEvent], Exception | None]:
    """What came before the error, and the error; None where there was none."""
    events: list[ProviderEvent] = []
    try:
        async with aclosing(provider.stream(request or a_request())) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - those before an error are wanted too
    except Exception as error:
        return events, error
    return events, None


def text_of(events: list[ProviderEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[ProviderEvent]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]
