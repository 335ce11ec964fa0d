"""OpenAI's Chat Completions wire format, which most model servers speak too.

Plain functions and a reader that does no I/O, shared by `openai` and `local`. The format is that of
https://platform.openai.com/docs/api-reference/chat/streaming with `stream_options.include_usage`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from inference.providers.base import (
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from inference.providers.failures import Failures
from inference.providers.sse import EventParser
from llmsite.core import quick_json

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "abort": "cancelled",
}


def request_body(request: ChatRequest, parameters: frozenset[str]) -> dict[str, Any]:
    """The JSON of a streamed call, but for the limit of tokens, whose name differs between servers.

    Of the other parameters only those in `parameters` are sent, and only where they are set.
    """
    chosen = {name: getattr(request, name) for name in sorted(parameters)}
    return {
        "model": request.model,
        "messages": [turn(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: _plain(value) for name, value in chosen.items() if value not in (None, ())},
    }


def turn(message: ChatMessage) -> dict[str, Any]:
    """One turn as the format has it."""
    if message.role == "tool":
        # The format has no other way to say that a tool has failed.
        content = f"Error: {message.content}" if message.is_error else message.content
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": message.content or None, "tool_calls": calls}


class CompletionReader:
    """Reads one streamed answer from the bytes of its body."""

    def __init__(self, failures: Failures) -> None:
        self.done = False
        """Whether the end of the answer was announced (`[DONE]`)."""
        self.started = False
        """Whether text or a call has come."""
        self._failures = failures
        self._events = EventParser()
        self._finish_reason: FinishReason | None = None
        self._refused = False
        self._usage: Usage | None = None

    def feed(self, received: bytes) -> Iterator[TextDelta | ToolCallDelta]:
        """Yield the pieces in `received`. Raises the failure that the stream announces, or makes no sense."""
        try:
            for event in self._events.feed(received):
                if event.data.startswith("[DONE]"):
                    self.done = True
                    return
                for piece in self._take(quick_json.decode(event.data)):
                    self.started = True
                    yield piece
        # Another server's stream can be wrong in any shape; whichever it is, the answer is broken.
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            what = "events of another shape"
            raise self._failures.broken(what, started=self.started, error=error) from None

    def finished(self) -> Finished:
        """The end of the answer, once the body is over. Raises UpstreamCut, or ProviderError when empty."""
        if not self.done:
            raise self._failures.broken("the stream ended without [DONE]", started=self.started)
        if not self.started and self._finish_reason is None:
            raise self._failures.broken("the stream held no answer", started=False)
        reason = "content_filter" if self._refused else self._finish_reason or "stop"
        return Finished(reason, self._usage)

    def _take(self, chunk: dict[str, Any]) -> Sequence[TextDelta | ToolCallDelta]:
        """Note what `chunk` says, and give its pieces."""
        if chunk.get("error"):
            raise self._failures.from_event(chunk)
        if usage := chunk.get("usage"):
            self._usage = Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        if not chunk.get("choices"):
            return ()
        choice = chunk["choices"][0]
        if reason := choice.get("finish_reason"):
            self._finish_reason = _FINISH_REASONS.get(reason, "stop")
        delta = choice.get("delta") or {}
        # A model that refuses says so in a field of its own, and ends with "stop".
        self._refused = self._refused or bool(delta.get("refusal"))
        text = _text(delta.get("content") or delta.get("refusal") or "")
        pieces = (TextDelta(text),) if text else ()
        if calls := delta.get("tool_calls"):
            return (*pieces, *(_call_piece(call, at) for at, call in enumerate(calls)))
        return pieces


def _call_piece(call: dict[str, Any], at: int) -> ToolCallDelta:
    function = call.get("function") or {}
    return ToolCallDelta(
        # A server that sends each call whole may leave out which one it is.
        index=int(call.get("index", at)),
        id=_text(call.get("id") or ""),
        name=_text(function.get("name") or ""),
        arguments=_text(function.get("arguments") or ""),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a piece that is no text")
    return value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
