"""What can be wrong with a data set, in sentences; `training.formats.problems` has the words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

SENTENCES = {
    # Of one row
    "not_json": gettext_lazy("This is not valid JSON."),
    "no_object": gettext_lazy("This is no JSON object."),
    "not_csv": gettext_lazy("The quotation marks of this row do not close."),
    "cells": gettext_lazy("It has {count} cells where the first row names {columns} columns."),
    "too_long": gettext_lazy("It is longer than 1,000,000 characters."),
    "too_many_tokens": gettext_lazy("It has {tokens} tokens, and the model takes {limit} at most."),
    "empty": gettext_lazy("“{name}” is missing or empty."),
    "no_text": gettext_lazy("“{name}” is no text."),
    "control": gettext_lazy("“{name}” has the character {character} in it, which is no text."),
    "part": gettext_lazy("“{name}” has a part of the type “{kind}”; only text can be learnt."),
    "no_message": gettext_lazy("“{name}” is no message."),
    "role": gettext_lazy("“{name}” is of the unknown role “{role}”."),
    "no_turns": gettext_lazy("“{name}” has no messages."),
    "late_system": gettext_lazy("“{name}” has a system message behind others."),
    "first_turn": gettext_lazy("“{name}” does not begin with the user."),
    "last_turn": gettext_lazy("“{name}” does not end with a message of the {role}."),
    "history": gettext_lazy("“{name}” is no pair of a question and its answer."),
    "same_answers": gettext_lazy("The chosen and the rejected answer are the same."),
    "other_prompt": gettext_lazy("“{name}” is another conversation than the chosen one."),
    "label": gettext_lazy("“{name}” says neither true nor false."),
    "values": gettext_lazy("The values of this row are not what its columns should have."),
    "unwilling": gettext_lazy("Whoever it comes from does not allow training on it."),
    # Of the whole file
    "no_shape": gettext_lazy(
        "No known shape has these columns: {names}. Say which of them are the prompt and the completion."
    ),
    "no_rows": gettext_lazy("The file has no rows."),
    "no_feedback": gettext_lazy("There is no accepted feedback whose authors allow training yet."),
    "too_few": gettext_lazy("A data set needs two rows at least; this one has {count}."),
    "too_many_rows": gettext_lazy("The file has more than {limit} rows. Split it."),
    "too_many_lines": gettext_lazy("The file has more than {limit} lines. Split it."),
    "not_utf8": gettext_lazy("The file is not text in UTF-8. Save it as UTF-8."),
    "damaged": gettext_lazy("The file is damaged, or not what its name says."),
    "too_large": gettext_lazy("Unpacked, the file is larger than what is read here. Split it."),
    "too_slow": gettext_lazy("Reading the file took too long. Split it."),
    "out_of_memory": gettext_lazy("Reading the file took too much memory. Split it."),
    "crashed": gettext_lazy("The file could not be read to its end."),
}
NAMED = 3
"""How many rows a refusal names; the preview has more."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and on which line; in Parquet, which has none, that is the number of the row."""

    code: str
    line: int | None = None
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, said: dict[str, Any]) -> "Problem":
        """What a child has said. Raises KeyError, TypeError or ValueError for what makes no sense."""
        line = said["line"]
        data = {
            str(name): value if isinstance(value, int) else str(value)[:200]
            for name, value in said["data"].items()
        }
        problem = cls(str(said["code"]), None if line is None else int(line), data)
        _ = problem.reason
        return problem

    @property
    def reason(self) -> str:
        return str(SENTENCES[self.code]).format_map(self.data)

    @property
    def sentence(self) -> str:
        """The reason with its place."""
        return self.placed(self.reason)

    def placed(self, reason: str) -> str:
        """A reason with this place."""
        if self.line is None:
            return reason
        return _("Line %(line)s: %(reason)s") % {"line": self.line, "reason": reason}

    @classmethod
    def several(cls, problems: Sequence["Problem"], count: int) -> str:
        """The first of them, and how many more there are."""
        told = " ".join(problem.sentence for problem in problems[:NAMED])
        if count <= NAMED:
            return told
        return _("%(told)s And %(count)s more rows are not right.") % {"told": told, "count": count - NAMED}

    def as_dict(self) -> dict[str, Any]:
        return {"line": self.line, "code": self.code, "reason": self.reason}
