"""What a look at one part of the site finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is one sentence; `todo` says what to do where something is wrong. No secret is in either."""

    part: str
    state: State
    text: str
    todo: str = ""


Look = Callable[[], Iterator[Finding]]


def ok(part: str, text: str) -> Finding:
    return Finding(part, "ok", text)


def warning(part: str, text: str, todo: str) -> Finding:
    return Finding(part, "warning", text, todo)


def failed(part: str, text: str, todo: str) -> Finding:
    return Finding(part, "failed", text, todo)


def examine(part: str, look: Look) -> list[Finding]:
    """What `look` finds; what it breaks on is told as a failure, by its kind alone."""
    try:
        return list(look())
    except Exception as error:
        text = f"Looking at it failed ({type(error).__name__})."
        return [failed(part, text, "Run doctor again; if it says the same, report it as a fault of doctor.")]
