"""The shapes of OpenAI's answers: https://platform.openai.com/docs/api-reference/chat"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from inference.events import Delta, Event, Failed, Finished, Sources, Started, ToolCallPiece
from inference.pipeline import Completion
from inference.providers.base import ToolCall
from inference.replies import deciding, told_grounds
from inference.together import joined_calls
from llmsite.core import quick_json
from llmsite.core.dialects import OPENAI
from llmsite.core.errors import told

DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": keep-alive\n\n"

_quote = json.encoder.encode_basestring
# An answer that was stopped on purpose ended; the format has no word of its own for that.
_FINISH_REASONS = {"cancelled": "stop"}


@dataclass(frozen=True)
class Frame:
    """What is the same in all that is sent of one answer."""

    started: Started
    created: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def _head(self) -> str:
        """The beginning of each chunk."""
        return quick_json.encode(self._object("chat.completion.chunk")).decode()[:-1]

    def completion(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The whole answer at once."""
        ends = [completion.end for completion in completions if isinstance(completion.end, Finished)]
        choices = [
            {
                "index": at,
                "message": _message(completion.text, joined_calls(completion.tool_calls)),
                "logprobs": None,
                "finish_reason": _finish_reason(end),
            }
            for at, (completion, end) in enumerate(zip(completions, ends, strict=True))
        ]
        frame = self._object("chat.completion")
        ours = self._ours(ends)
        if grounds := completions[0].grounds:
            ours |= told_grounds(grounds)
        return {**frame, "choices": choices, "usage": usage(ends), "llmsite": ours}

    def chunk(self, choice: int, event: Event, *, usage_follows: bool) -> bytes:
        """One event of one choice on the wire."""
        if isinstance(event, Delta):
            return self._text(choice, event.text, usage_follows=usage_follows)
        if isinstance(event, ToolCallPiece):
            return self._chunk(choice, {"tool_calls": [_call_piece(event)]}, usage_follows=usage_follows)
        if isinstance(event, Finished):
            reason, ours = _finish_reason(event), {"llmsite": self._ours([event])}
            return self._chunk(choice, {}, reason, usage_follows=usage_follows, more=ours)
        if isinstance(event, Sources):
            # An event of its own, without choices, is what naive clients fall over.
            return self._chunk(choice, {}, usage_follows=usage_follows, more={"llmsite": asdict(event)})
        if isinstance(event, Failed):
            return data(OPENAI.error(told(event.code, event.message), event.request_id))
        return self._chunk(choice, {"role": "assistant", "content": ""}, usage_follows=usage_follows)

    def usage_chunk(self, ends: Sequence[Finished]) -> bytes:
        """The last chunk, for those who asked for it."""
        return data({**self._object("chat.completion.chunk"), "choices": [], "usage": usage(ends)})

    def _text(self, choice: int, text: str, *, usage_follows: bool) -> bytes:
        """A piece of the text. By far the most are: put together by hand it takes a fifth of the time."""
        head, usage = self._head, ',"usage":null' if usage_follows else ""
        delta = (
            f'{{"index":{choice},"delta":{{"content":{_quote(text)}}},"logprobs":null,"finish_reason":null}}'
        )
        return f'data: {head},"choices":[{delta}]{usage}}}\n\n'.encode()

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        *,
        usage_follows: bool,
        more: dict[str, Any] | None = None,
    ) -> bytes:
        choices = [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
        chunk = {**self._object("chat.completion.chunk"), "choices": choices, **(more or {})}
        return data({**chunk, "usage": None} if usage_follows else chunk)

    def _object(self, kind: str) -> dict[str, Any]:
        identifier = "chatcmpl-" + self.started.generation.replace("-", "")
        return {"id": identifier, "object": kind, "created": self.created, "model": self.started.model}

    def _ours(self, ends: Sequence[Finished]) -> dict[str, Any]:
        """How it was answered, beside what the format knows; clients pass over fields they do not know."""
        end = deciding(ends)
        ours = {
            "cache": end.cache,
            "cost": cost(ends),
            "dropped_parameters": end.dropped_parameters,
            "context_trimmed": end.context_trimmed,
        }
        if self.started.requested_model:
            ours["requested_model"] = self.started.requested_model
        return ours


def data(value: Any) -> bytes:
    """One event on the wire. No id and no name: clients of this API stumble over them."""
    return b"data: " + quick_json.encode(value) + b"\n\n"


def usage(ends: Sequence[Finished]) -> dict[str, int]:
    """Tokens of all choices together."""
    prompt = sum(end.usage.get("input_tokens") or 0 for end in ends)
    answer = sum(end.usage.get("output_tokens") or 0 for end in ends)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def cost(ends: Sequence[Finished]) -> str:
    """What all choices cost, as a decimal in CURRENCY."""
    return str(sum((Decimal(end.cost) for end in ends), Decimal(0)))


def _finish_reason(end: Finished) -> str:
    return _FINISH_REASONS.get(end.finish_reason, end.finish_reason)


def _message(text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if calls:
        message["content"] = text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return message


def _call_piece(piece: ToolCallPiece) -> dict[str, Any]:
    if not piece.call:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.call, "type": "function", "function": function}
