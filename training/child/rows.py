"""Rows as tokens: what a model is trained on, and examined with, is exactly what the engine would read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inference.engine.chat import Message
from training.child.job import ChildFailure
from training.rows import Row, answer_of, prompt_of

IGNORED = -100
"""The label of a token that is not learnt."""


class Chat(Protocol):
    """See training.child.base.TrainingChat."""

    end: int
    pad: int

    def prompt(self, messages: Sequence[Message]) -> list[list[int]]: ...

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as tokens; those from `answer_from` on are to be learnt."""

    tokens: list[int]
    answer_from: int

    @property
    def labels(self) -> list[int]:
        return [IGNORED] * self.answer_from + self.tokens[self.answer_from :]


def encoded(row: Row, chat: Chat) -> Encoded:
    """A row of any layout: its prompt is read, its answer and its end are learnt; of plain text all."""
    turns = prompt_of(row)
    before = [token for part in chat.prompt(_messages(turns)) for token in part] if turns else []
    return Encoded([*before, *chat.encode(answer_of(row)), chat.end], len(before))


def encoded_all(rows: Sequence[Row], chat: Chat) -> list[Encoded]:
    """All rows. Raises ChildFailure for one whose turns the model's template does not take."""
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(encoded(row, chat))
        except ValueError as error:
            raise ChildFailure("row_refused", row=number + 1) from error
    return found


def require_short(rows: Sequence[Encoded], *, most: int, context: int) -> None:
    """Raises ChildFailure for the first row with more tokens than `most`, the run's own limit, or `context`.

    What is cut teaches half a thing.
    """
    lengths = [len(row.tokens) for row in rows]
    limit = min(most, context)
    row = next((number for number, length in enumerate(lengths) if length > limit), None)
    if row is None:
        return
    said = {"row": row + 1, "tokens": lengths[row], "limit": limit}
    if max(lengths) > context:
        raise ChildFailure("rows_over_context", **said, context=context)
    raise ChildFailure("rows_too_long", **said, longest=max(lengths))


def _messages(turns: Sequence[dict[str, Any]]) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in turns]
