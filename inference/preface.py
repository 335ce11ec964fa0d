"""The turns that a program sent before its question, as they are kept with the conversation it began."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from inference.ask import Ask
from inference.providers.base import ChatMessage, ToolCall


def preface_of(ask: Ask) -> list[dict[str, Any]]:
    """The system prompt and the older turns, as JSON."""
    system = [ChatMessage("system", ask.system)] if ask.system else []
    return [_as_dict(turn) for turn in (*system, *ask.history)]


def turns_of(preface: Sequence[dict[str, Any]]) -> list[ChatMessage]:
    """The inverse."""
    return [
        ChatMessage(
            turn["role"],
            turn["content"],
            tuple(ToolCall(**call) for call in turn.get("tool_calls", ())),
            turn.get("tool_call_id", ""),
            turn.get("is_error", False),
        )
        for turn in preface
    ]


def _as_dict(turn: ChatMessage) -> dict[str, Any]:
    values: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        values["tool_calls"] = [asdict(call) for call in turn.tool_calls]
    if turn.tool_call_id:
        values["tool_call_id"] = turn.tool_call_id
    if turn.is_error:
        values["is_error"] = True
    return values
