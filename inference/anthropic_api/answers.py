"""The shapes of Anthropic's answers: https://docs.anthropic.com/en/api/messages-streaming"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from inference.anthropic_api.questions import FIELD_NAMES
from inference.events import Delta, Event, Failed, Finished, Sources, Started, ToolCallPiece
from inference.pipeline import Completion
from inference.providers.messages import arguments_of
from inference.replies import told_grounds
from inference.together import joined_calls
from llmsite.core import quick_json
from llmsite.core.dialects import ANTHROPIC
from llmsite.core.errors import told

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "cancelled": "end_turn",
}


def message(completion: Completion, end: Finished) -> dict[str, Any]:
    """The whole answer at once."""
    calls, grounds = joined_calls(completion.tool_calls), completion.grounds
    content: list[dict[str, Any]] = [
        *([{"type": "text", "text": completion.text}] if completion.text else []),
        *({"type": "tool_use", "id": c.id, "name": c.name, "input": arguments_of(c)} for c in calls),
    ]
    return {
        **_frame(completion.started),
        "content": content,
        **_stop(end),
        "usage": _usage(end),
        "llmsite": _ours(completion.started, end) | (told_grounds(grounds) if grounds else {}),
    }


class MessageWriter:
    """Writes one streamed answer, block by block."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self._sources: dict[str, Any] = {}
        self._blocks = 0
        self._open: int | None = None
        """The number of the block that is being written."""
        self._text: int | None = None
        self._calls: dict[int, int] = {}
        """The numbers of the blocks of the calls, by their index."""

    @property
    def is_in_text(self) -> bool:
        """Whether a piece of text goes on with the open block, so that writing it changes nothing here."""
        return self._open is not None and self._open == self._text

    def begin(self) -> bytes:
        # The tokens of the prompt are known at the end; `message_delta` tells them.
        usage = {"input_tokens": 0, "output_tokens": 0}
        opening = {**_frame(self._started), "content": [], "stop_reason": None, "usage": usage}
        return event("message_start", message=opening) + ping()

    def write(self, told_event: Event) -> bytes:
        """What one event is on the wire."""
        return b"".join(self._parts(told_event))

    def _parts(self, told_event: Event) -> Iterator[bytes]:
        if isinstance(told_event, Delta):
            if not self.is_in_text:
                yield from self._open_block({"type": "text", "text": ""})
                self._text = self._open
            yield _delta(self._text, {"type": "text_delta", "text": told_event.text})
        elif isinstance(told_event, ToolCallPiece):
            if told_event.index not in self._calls:
                call = {"type": "tool_use", "id": told_event.call, "name": told_event.name, "input": {}}
                self._calls[told_event.index] = self._blocks
                yield from self._open_block(call)
            if told_event.arguments:
                delta = {"type": "input_json_delta", "partial_json": told_event.arguments}
                yield _delta(self._calls[told_event.index], delta)
        elif isinstance(told_event, Sources):
            # Told with the end: the events before have no place for what clients do not know.
            self._sources = asdict(told_event)
        elif isinstance(told_event, Finished):
            yield from self._close_block()
            ours = _ours(self._started, told_event) | self._sources
            yield event("message_delta", delta=_stop(told_event), usage=_usage(told_event), llmsite=ours)
            yield event("message_stop")
        elif isinstance(told_event, Failed):
            error = ANTHROPIC.error(told(told_event.code, told_event.message), told_event.request_id)
            yield event("error", **{name: error[name] for name in ("error", "request_id")})

    def _open_block(self, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close_block()
        self._open = self._blocks
        self._blocks += 1
        yield event("content_block_start", index=self._open, content_block=block)

    def _close_block(self) -> Iterator[bytes]:
        if self._open is not None:
            yield event("content_block_stop", index=self._open)
            self._open = None


def _delta(block: int | None, delta: dict[str, Any]) -> bytes:
    return event("content_block_delta", index=block, delta=delta)


def event(name: str, **values: Any) -> bytes:
    """One event on the wire; clients of this API pass over events without a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), quick_json.encode({"type": name, **values}))


def ping() -> bytes:
    """What keeps a connection open while nothing else is to be told."""
    return event("ping")


def _frame(started: Started) -> dict[str, Any]:
    return {
        "id": "msg_" + started.generation.replace("-", ""),
        "type": "message",
        "role": "assistant",
        "model": started.model,
        "stop_sequence": None,
    }


def _stop(end: Finished) -> dict[str, str | None]:
    """Why it ended; most providers do not say whether a stop string was met, or which."""
    if end.stop_sequence:
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stop_sequence}
    return {"stop_reason": _STOP_REASONS[end.finish_reason], "stop_sequence": None}


def _usage(end: Finished) -> dict[str, int]:
    return {
        "input_tokens": end.usage.get("input_tokens") or 0,
        "output_tokens": end.usage.get("output_tokens") or 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _ours(started: Started, end: Finished) -> dict[str, Any]:
    """How it was answered, beside what the format knows; clients pass over fields they do not know."""
    ours = {
        "cache": end.cache,
        "cost": end.cost,
        "dropped_parameters": [FIELD_NAMES.get(name, name) for name in end.dropped_parameters],
        "context_trimmed": end.context_trimmed,
    }
    return {**ours, "requested_model": started.requested_model} if started.requested_model else ours
