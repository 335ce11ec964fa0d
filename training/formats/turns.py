"""Messages of any shape become turns: a role of ours, and a text."""

import json
import re
from typing import Any

from training.formats.problems import BadRow
from training.rows import Turn

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    # What a tool was called with is the model's text, and what it gave is told to the model.
    "function_call": "assistant",
    "tool": "user",
    "function": "user",
    "observation": "user",
}
TOOL_ROLES = {"function_call", "tool", "function", "observation"}
TEXT_PARTS = {"text", "input_text", "output_text", "refusal"}
UNSEEN_PARTS = {"reasoning", "thinking", "reasoning_text"}
"""What a model has thought, which is no part of what it said."""

CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


def text_of(value: object, name: str) -> str:
    """A value as text; a number becomes its digits. Raises BadRow."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadRow("no_text", name=name)
    if (found := CONTROL.search(value)) is not None:
        raise BadRow("control", name=name, character=f"U+{ord(found[0]):04X}")
    return value.replace("\r\n", "\n")


def required_text(value: object, name: str) -> str:
    """A text that has something in it. Raises BadRow."""
    text = text_of(value, name)
    if not text.strip():
        raise BadRow("empty", name=name)
    return text


def content_of(value: object, name: str) -> str:
    """The text of a message's content, which may come in parts."""
    if not isinstance(value, list):
        return text_of(value, name)
    parts = [_part(part, name) for part in value]
    return "\n\n".join(part for part in parts if part)


def _part(part: object, name: str) -> str:
    if isinstance(part, str):
        return text_of(part, name)
    if not isinstance(part, dict):
        raise BadRow("no_text", name=name)
    kind = part.get("type", "text")
    if kind in UNSEEN_PARTS:
        return ""
    if kind == "tool_call":
        return _as_text(part.get("value"), name)
    if kind not in TEXT_PARTS:
        raise BadRow("part", name=name, kind=str(kind)[:40])
    return text_of(part.get("text", part.get("value", part.get("refusal"))), name)


def _as_text(value: object, name: str) -> str:
    return text_of(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), name)


def turn_of(message: object, name: str) -> Turn:
    """One message as a turn; `name` says where it stands. Raises BadRow."""
    if not isinstance(message, dict):
        raise BadRow("no_message", name=name)
    given = message.get("role", message.get("from"))
    role = ROLES.get(given.strip().lower()) if isinstance(given, str) else None
    if role is None:
        raise BadRow("role", name=name, role=str(given)[:40])
    content = content_of(message.get("content", message.get("value")), name)
    calls = message.get("tool_calls") or message.get("function_call")
    if calls:
        content = "\n\n".join(filter(None, [content, _as_text(calls, name)]))
    return {"role": role, "content": content}


def has_tools(record: dict[str, Any]) -> bool:
    """Whether tools are called, or say something, in one of its conversations: both become plain text."""
    lists = [value for value in record.values() if isinstance(value, list)]
    return any(_is_of_tools(message) for messages in lists for message in messages)


def _is_of_tools(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    role = message.get("role", message.get("from"))
    calls = message.get("tool_calls") or message.get("function_call")
    return bool(calls) or (isinstance(role, str) and role.strip().lower() in TOOL_ROLES)


def turns_of(messages: object, name: str) -> list[Turn]:
    """All messages, neighbours of one role as one turn, empty system turns left out. Raises BadRow."""
    if isinstance(messages, str):
        messages = _json_in_a_cell(messages, name)
    if not isinstance(messages, list) or not messages:
        raise BadRow("no_turns", name=name)
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        turn = turn_of(message, f"{name}[{at}]")
        if not turn["content"].strip():
            if turn["role"] == "system":
                continue
            raise BadRow("empty", name=f"{name}[{at}]")
        if turns and turns[-1]["role"] == turn["role"]:
            turn = {**turn, "content": f"{turns.pop()['content']}\n\n{turn['content']}"}
        turns.append(turn)
    return turns


def _json_in_a_cell(text: str, name: str) -> Any:
    """A cell of a CSV holds messages as JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow("no_turns", name=name) from error


def in_order(turns: list[Turn], name: str, *, ends_with: str) -> list[Turn]:
    """Turns that begin with the user and end with `ends_with`, a system turn before them. Raises BadRow."""
    spoken = turns[1:] if turns and turns[0]["role"] == "system" else turns
    if any(turn["role"] == "system" for turn in spoken):
        raise BadRow("late_system", name=name)
    if not spoken or spoken[0]["role"] != "user":
        raise BadRow("first_turn", name=name)
    if spoken[-1]["role"] != ends_with:
        raise BadRow("last_turn", name=name, role=ends_with)
    return turns
