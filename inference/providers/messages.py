"""Anthropic's Messages wire format: from our request to the arguments of a call, and back from its events.

Plain functions and a reader that does no I/O. https://docs.anthropic.com/en/api/messages and
https://docs.anthropic.com/en/api/messages-streaming describe the format.
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from inference.providers.base import (
    ChatMessage,
    ChatRequest,
    Finished,
    FinishReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from inference.providers.characters import whole_text
from inference.providers.failures import Failures
from llmsite.core.errors import UnsupportedParameter

if TYPE_CHECKING:
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
_TOOL_CHOICES = {"none": "none", "auto": "auto", "required": "any"}

Block = dict[str, Any]


def request_body(request: ChatRequest) -> dict[str, Any]:
    """The arguments of a streamed `messages.create`. Raises UnsupportedParameter (response_format)."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": turns(request.messages),
        "stream": True,
    }
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    if system and body["messages"]:
        body["system"] = system
    elif system:
        # The API wants a turn of the user's, and some programs send their whole question as the system's.
        body["messages"] = [{"role": "user", "content": system}]
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [_tool(tool["function"]) for tool in request.tools]
    if choice := _tool_choice(request):
        body["tool_choice"] = choice
    if output := _output_format(request.response_format):
        body["output_config"] = {"format": output}
    return body


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    tool = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    optional = {name: function[name] for name in ("description", "strict") if function.get(name)}
    return {**tool, **optional}


def _tool_choice(request: ChatRequest) -> dict[str, Any] | None:
    if not request.tools:
        return None
    asked, one_at_a_time = request.tool_choice, request.parallel_tool_calls is False
    if asked is None and not one_at_a_time:
        return None
    if isinstance(asked, dict):
        choice: dict[str, Any] = {"type": "tool", "name": asked["function"]["name"]}
    else:
        choice = {"type": _TOOL_CHOICES[asked or "auto"]}
    if one_at_a_time and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _output_format(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    """A schema is passed on; "any JSON" has no counterpart there."""
    kind = (response_format or {"type": "text"})["type"]
    if kind == "text":
        return None
    schema = (response_format or {}).get("json_schema", {}).get("schema")
    if kind != "json_schema" or not schema:
        raise UnsupportedParameter(field="response_format")
    return {"type": "json_schema", "schema": schema}


def turns(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The turns but for the system's, neighbours of one role joined, and empty ones left out.

    The API refuses an empty turn; one is left, for example, by an answer that was stopped at once. It
    knows no tool's role either: what a tool said is a block of the user's turn.
    """
    joined: list[dict[str, Any]] = []
    for message in messages:
        content = _content(message)
        if not content:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] = _join(joined[-1]["content"], content)
        else:
            joined.append({"role": role, "content": content})
    return joined


def _content(message: ChatMessage) -> str | list[Block]:
    if message.role == "system":
        return ""
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
        return [{**result, "is_error": True} if message.is_error else result]
    text = message.content if message.content.strip() else ""
    if not message.tool_calls:
        return text
    return [*_blocks(text), *(_tool_use(call) for call in message.tool_calls)]


def _tool_use(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)}


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object; what a model wrote that is none is passed on as one text."""
    try:
        arguments = json.loads(call.arguments or "{}")
        if "\\u" in call.arguments:
            # What was half a character as JSON writes it is one now.
            arguments = json.loads(whole_text(json.dumps(arguments, ensure_ascii=False)))
    except (ValueError, RecursionError):
        arguments = call.arguments
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def _join(first: str | list[Block], second: str | list[Block]) -> str | list[Block]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_blocks(first), *_blocks(second)]


def _blocks(content: str | list[Block]) -> list[Block]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


class MessageReader:
    """Reads one streamed answer from the SDK's events."""

    def __init__(self, failures: Failures) -> None:
        self.started = False
        """Whether text or a call has come."""
        self._failures = failures
        self._finish_reason: FinishReason | None = None
        self._stop_sequence = ""
        self._prompt_tokens: int | None = None
        self._output_tokens = 0
        self._calls: list[int] = []
        """The numbers of the blocks that are calls, in the order they came."""
        self._without_arguments: set[int] = set()
        self._stopped = False

    def take(self, event: "RawMessageStreamEvent") -> Iterator[TextDelta | ToolCallDelta]:
        """Note what `event` says, and yield its pieces."""
        for piece in self._pieces(event):
            self.started = True
            yield piece
        if event.type == "message_start":
            self._count(event.message.usage)
        elif event.type == "message_delta":
            self._count(event.usage)
            self._finish_reason = _FINISH_REASONS.get(event.delta.stop_reason or "", "stop")
            self._stop_sequence = event.delta.stop_sequence or ""
        elif event.type == "message_stop":
            self._stopped = True

    def finished(self) -> Finished:
        """The end of the answer, once the events are over. Raises UpstreamCut, or ProviderError if empty."""
        if not self._stopped:
            raise self._failures.broken("the stream ended without message_stop", started=self.started)
        if not self.started and self._finish_reason is None:
            raise self._failures.broken("the stream held no answer", started=False)
        counted = self._prompt_tokens is not None
        usage = Usage(self._prompt_tokens or 0, self._output_tokens) if counted else None
        return Finished(self._finish_reason or "stop", usage, self._stop_sequence)

    def _pieces(self, event: "RawMessageStreamEvent") -> Iterator[TextDelta | ToolCallDelta]:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            if event.delta.text:
                # The first event tells the tokens of the prompt before any text.
                yield TextDelta(event.delta.text, self._prompt_tokens)
        elif event.type == "content_block_start" and event.content_block.type == "tool_use":
            block = event.content_block
            self._calls.append(event.index)
            self._without_arguments.add(event.index)
            yield ToolCallDelta(len(self._calls) - 1, block.id, block.name)
        elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
            if event.delta.partial_json:
                self._without_arguments.discard(event.index)
                yield ToolCallDelta(self._calls.index(event.index), arguments=event.delta.partial_json)
        elif event.type == "content_block_stop" and event.index in self._without_arguments:
            # A call without arguments comes as no text at all, which would be no JSON.
            self._without_arguments.discard(event.index)
            yield ToolCallDelta(self._calls.index(event.index), arguments="{}")

    def _count(self, usage: Any) -> None:
        """Keep the last count of each kind; the prompt's tokens are told apart by what the cache did."""
        if usage is None:
            return
        if usage.input_tokens is not None:
            kinds = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
            self._prompt_tokens = sum(tokens or 0 for tokens in kinds)
        self._output_tokens = usage.output_tokens or self._output_tokens
