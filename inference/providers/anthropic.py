"""Anthropic's Messages, through its official SDK."""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings

from inference.providers.base import (
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    ProviderEvent,
    TextDelta,
    Usage,
)
from inference.providers.failures import Failures
from inference.providers.sdk import SDKProvider

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import RawMessageStreamEvent

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicProvider(SDKProvider):
    """The SDK's call takes no temperature, top_p or seed, so they are not among the parameters."""

    name = "anthropic"
    parameters = frozenset({"stop"})
    key_setting = "ANTHROPIC_API_KEY"

    @classmethod
    def from_settings(cls) -> "AnthropicProvider":
        return cls(
            api_key=settings.ANTHROPIC_API_KEY,
            base_url=settings.ANTHROPIC_BASE_URL,
            connect_timeout=settings.CONNECT_TIMEOUT,
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ProviderEvent, None]:
        client = await self._clients.get()
        import anthropic

        reader = MessageReader(self._failures)
        with self._translated(anthropic, reader):
            async with await client.messages.create(**request_body(request)) as events:
                async for event in events:
                    if text := reader.take(event):
                        yield TextDelta(text, reader.prompt_tokens)
        yield reader.finished()

    def _build_client(self) -> "AsyncAnthropic":
        import anthropic

        client = anthropic.AsyncAnthropic(**self._client_options(anthropic))
        # The SDK imports each part of the API when it is first named: better here than in the loop.
        _ = client.messages
        return client


def request_body(request: ChatRequest) -> dict[str, Any]:
    """The arguments of a streamed `messages.create`."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": turns(request.messages),
        "stream": True,
    }
    if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
        body["system"] = system
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    return body


def turns(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """The turns but for the system's, neighbours of one role joined, and empty ones left out.

    The API refuses an empty turn; one is left, for example, by an answer that was stopped at once.
    """
    joined: list[dict[str, str]] = []
    for message in messages:
        if message.role == "system" or not message.content.strip():
            continue
        if joined and joined[-1]["role"] == message.role:
            joined[-1]["content"] += f"\n\n{message.content}"
        else:
            joined.append({"role": message.role, "content": message.content})
    return joined


class MessageReader:
    """Reads one streamed answer from the SDK's events.

    https://docs.anthropic.com/en/api/messages-streaming describes them.
    """

    def __init__(self, failures: Failures) -> None:
        self.started = False
        """Whether text has come."""
        self._failures = failures
        self._finish_reason: FinishReason | None = None
        self.prompt_tokens: int | None = None
        """What the first event says, before any text."""
        self._output_tokens = 0
        self._stopped = False

    def take(self, event: "RawMessageStreamEvent") -> str:
        """Note what `event` says, and return its text."""
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            self.started = self.started or bool(event.delta.text)
            return event.delta.text
        if event.type == "message_start":
            self._count(event.message.usage)
        elif event.type == "message_delta":
            self._count(event.usage)
            self._finish_reason = _FINISH_REASONS.get(event.delta.stop_reason or "", "stop")
        elif event.type == "message_stop":
            self._stopped = True
        return ""

    def finished(self) -> Finished:
        """The end of the answer, once the events are over. Raises UpstreamCut, or ProviderError if empty."""
        if not self._stopped:
            raise self._failures.broken("the stream ended without message_stop", started=self.started)
        if not self.started and self._finish_reason is None:
            raise self._failures.broken("the stream held no answer", started=False)
        counted = self.prompt_tokens is not None
        usage = Usage(self.prompt_tokens or 0, self._output_tokens) if counted else None
        return Finished(self._finish_reason or "stop", usage)

    def _count(self, usage: Any) -> None:
        """Keep the last count of each kind; the prompt's tokens are told apart by what the cache did."""
        if usage is None:
            return
        if usage.input_tokens is not None:
            kinds = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
            self.prompt_tokens = sum(tokens or 0 for tokens in kinds)
        self._output_tokens = usage.output_tokens or self._output_tokens
