"""OpenAI's chat protocol: what a request may say, and the shapes of the answers.

Format: https://platform.openai.com/docs/api-reference/chat; `/tokenize` has vLLM's shape.
"""

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from inference.engine.chat import Message, Role
from inference.engine.sampling import Sampling
from inference.engine.scheduler import Done
from llmsite.core.model_process import RequestError, clean_text, parse_model

MOST_STOP_STRINGS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One valid chat request; `max_tokens` None means as many as fit."""

    model: str | None
    messages: Sequence[Message]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()


def parse_chat(data: dict[str, Any]) -> ChatRequest:
    """Raises RequestError, which names the field. Fields that change nothing here are ignored."""
    if data.get("n") not in (None, 1):
        raise RequestError("n must be 1.", param="n")
    options = data.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RequestError("stream_options must be an object.", param="stream_options")
    most = "max_completion_tokens" if data.get("max_completion_tokens") is not None else "max_tokens"
    return ChatRequest(
        model=parse_model(data),
        messages=parse_messages(data),
        stream=_flag(data, "stream"),
        include_usage=_flag(options, "include_usage"),
        max_tokens=_whole(data, most, least=1),
        sampling=_sampling(data),
        stop=_stop(data),
    )


def parse_messages(data: dict[str, Any]) -> list[Message]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list with at least one message.", param="messages")
    return [_message(message, f"messages[{at}]") for at, message in enumerate(messages)]


def _message(data: Any, param: str) -> Message:
    if not isinstance(data, dict):
        raise RequestError(f"{param} must be an object.", param=param)
    role = "system" if data.get("role") == "developer" else data.get("role")
    if role not in get_args(Role):
        raise RequestError("A message's role must be system, user or assistant.", param=f"{param}.role")
    return Message(cast(Role, role), _content(data.get("content"), f"{param}.content"))


def _content(content: Any, param: str) -> str:
    """Text, or OpenAI's list of text parts joined."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    if not all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in parts
    ):
        raise RequestError("A message's content must be text.", param=param)
    return clean_text("".join(part["text"] for part in parts), param)


def _sampling(data: dict[str, Any]) -> Sampling:
    temperature = _number(data, "temperature", least=0, most=2)
    top_p = _number(data, "top_p", least=0, most=1)
    if top_p == 0:
        raise RequestError("top_p must be greater than 0.", param="top_p")
    return Sampling(
        temperature=0.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=_whole(data, "seed", least=-(2**63), most=2**64 - 1),
        frequency_penalty=_number(data, "frequency_penalty", least=-2, most=2),
    )


def _stop(data: dict[str, Any]) -> tuple[str, ...]:
    stop = data.get("stop") or []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise RequestError("stop must be a text or a list of texts, none of them empty.", param="stop")
    if len(stops) > MOST_STOP_STRINGS:
        raise RequestError(f"stop takes {MOST_STOP_STRINGS} texts at most.", param="stop")
    return tuple(stops)


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false.", param=name)
    return bool(value)


def _whole(data: dict[str, Any], name: str, *, least: int, most: int | None = None) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < least
        or (most is not None and value > most)
    ):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise RequestError(f"{name} must be a whole number, {bounds}.", param=name)
    return value


def _number(data: dict[str, Any], name: str, *, least: float, most: float) -> float | None:
    value = data.get(name)
    if value is None:
        return None
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not right or not least <= value <= most:
        raise RequestError(f"{name} must be a number from {least} to {most}.", param=name)
    return float(value)


@dataclass(frozen=True, slots=True)
class Answer:
    """The frame around one answer: the same id and time in all that is sent of it."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, text: str, done: Done) -> dict[str, Any]:
        """The whole answer at once."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish_reason}
        return {**self._frame("chat.completion"), "choices": [choice], "usage": usage(done)}

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        """One piece of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._frame("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, done: Done) -> dict[str, Any]:
        """The last chunk, for those who asked for it."""
        return {**self._frame("chat.completion.chunk"), "choices": [], "usage": usage(done)}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(done: Done) -> dict[str, int]:
    return {
        "prompt_tokens": done.input_tokens,
        "completion_tokens": done.output_tokens,
        "total_tokens": done.input_tokens + done.output_tokens,
    }
