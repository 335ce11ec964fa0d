"""The vendors' wire formats, as the stand-in writes them. Plain functions of plain values.

OpenAI's: https://platform.openai.com/docs/api-reference/chat/streaming. Anthropic's:
https://docs.anthropic.com/en/api/messages-streaming.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

Tokens = tuple[int, int] | None
"""Input and output tokens, or None where the answer does not tell them."""


class WireFormat(Protocol):
    """What the stand-in needs of a format."""

    stop_reason: str
    """The format's word for an answer that ended by itself."""

    def begin(self, usage: Tokens) -> bytes: ...
    def piece(self, text: str) -> bytes: ...
    def end(self, stop_reason: str, usage: Tokens) -> bytes: ...
    def error_event(self, error: Any) -> bytes: ...
    def whole(self, text: str, stop_reason: str, usage: tuple[int, int]) -> dict[str, Any]: ...
    def error(self, status: int) -> dict[str, Any]: ...


def words_of(messages: Sequence[dict[str, Any]]) -> int:
    """Words of the texts; calls of tools and what they said count for none."""
    texts = (message["content"] for message in messages)
    return sum(len(text.split()) for text in texts if isinstance(text, str))


def _data(value: Any) -> bytes:
    # Characters beyond ASCII travel as UTF-8, so that a split segment can cut them.
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


class OpenAIFormat:
    stop_reason = "stop"

    def begin(self, usage: Tokens) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def end(self, stop_reason: str, usage: Tokens) -> bytes:
        events = self._chunk({}, finish_reason=stop_reason)
        if usage:
            events += _data(
                {**self._object("chat.completion.chunk"), "choices": [], "usage": self._usage(usage)}
            )
        return events + b"data: [DONE]\n\n"

    def error_event(self, error: Any) -> bytes:
        return _data({"error": error})

    def whole(self, text: str, stop_reason: str, usage: tuple[int, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": stop_reason}
        return {**self._object("chat.completion"), "choices": [choice], "usage": self._usage(usage)}

    def error(self, status: int) -> dict[str, Any]:
        return {"error": {"message": f"scripted {status}", "type": "scripted", "param": None, "code": None}}

    def _chunk(self, delta: dict[str, str], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _data({**self._object("chat.completion.chunk"), "choices": [choice], "usage": None})

    @staticmethod
    def _object(kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1790000000, "model": "stand-in"}

    @staticmethod
    def _usage(usage: tuple[int, int]) -> dict[str, int]:
        return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


class AnthropicFormat:
    stop_reason = "end_turn"

    def begin(self, usage: Tokens) -> bytes:
        message = self._message([], stop_reason=None, usage=(usage[0], 1) if usage else None)
        block = {"type": "text", "text": ""}
        return (
            self._event("message_start", message=message)
            + self._event("content_block_start", index=0, content_block=block)
            + self._event("ping")
        )

    def piece(self, text: str) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def end(self, stop_reason: str, usage: Tokens) -> bytes:
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        told = {"usage": {"output_tokens": usage[1]}} if usage else {}
        return (
            self._event("content_block_stop", index=0)
            + self._event("message_delta", delta=delta, **told)
            + self._event("message_stop")
        )

    def error_event(self, error: Any) -> bytes:
        return self._event("error", error=error)

    def whole(self, text: str, stop_reason: str, usage: tuple[int, int]) -> dict[str, Any]:
        return self._message([{"type": "text", "text": text}], stop_reason=stop_reason, usage=usage)

    def error(self, status: int) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "scripted", "message": f"scripted {status}"}}

    def _event(self, name: str, **values: Any) -> bytes:
        return f"event: {name}\n".encode() + _data({"type": name, **values})

    @staticmethod
    def _message(content: list[Any], *, stop_reason: str | None, usage: Tokens) -> dict[str, Any]:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in"}
        told = {"usage": {"input_tokens": usage[0], "output_tokens": usage[1]}} if usage else {}
        return {**message, "content": content, "stop_reason": stop_reason, "stop_sequence": None, **told}


FORMATS: dict[str, WireFormat] = {
    "/v1/chat/completions": OpenAIFormat(),
    "/v1/messages": AnthropicFormat(),
}
"""By the path that a call comes to."""
