"""The rows of data sets as they are kept, one JSON object a line, whatever file they came in.

SFT         {"messages": [turn, …]}, the last one of the assistant
PREFERENCE  {"prompt": [turn, …], "chosen": str, "rejected": str}
RATED       {"prompt": [turn, …], "completion": str, "label": true | false}
TEXT        {"text": str}

A turn is {"role": "system" | "user" | "assistant", "content": str}. After an optional system turn the user
and the assistant take turns; a prompt ends with the user. Nothing here needs Django: children read rows too.
"""

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.models import DatasetVersion

Row = dict[str, Any]
Turn = dict[str, str]

SFT, PREFERENCE, RATED, TEXT = "sft", "dpo", "kto", "text"
"""The values of `training.models.Layout`."""


def read_rows(version: "DatasetVersion") -> Iterator[Row]:
    """The rows of a version, in their order. Raises DatasetDamaged (`training.storage.checked_path`)."""
    from training.storage import checked_path  # It needs the site's settings, which a child has not.

    return read_file(checked_path(version))


def read_file(path: Path, *, start: int = 0) -> Iterator[Row]:
    """The rows in a file that was written by `line_of`, from the one with the number `start` on."""
    with path.open("rb") as lines:
        for line in islice(lines, start, None):
            yield json.loads(line)


def line_of(row: Row) -> bytes:
    """A row as its line, which is the same for equal rows."""
    return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def is_row(row: Any, layout: str) -> bool:
    """Whether this is a row of `layout` as it is described above."""
    if not isinstance(row, dict) or layout not in _FIELDS or row.keys() != _FIELDS[layout]:
        return False
    texts = [row[name] for name in row.keys() - {"messages", "prompt", "label"}]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return False
    if not isinstance(row.get("label", True), bool):
        return False
    turns, last = (row["messages"], "assistant") if "messages" in row else (row.get("prompt"), "user")
    return layout == TEXT or (isinstance(turns, list) and _take_turns(turns, last))


_FIELDS = {
    SFT: {"messages"},
    PREFERENCE: {"prompt", "chosen", "rejected"},
    RATED: {"prompt", "completion", "label"},
    TEXT: {"text"},
}


def _take_turns(turns: list[Any], last: str) -> bool:
    if not all(isinstance(turn, dict) and turn.keys() == {"role", "content"} for turn in turns):
        return False
    if not all(isinstance(turn["content"], str) and turn["content"].strip() for turn in turns):
        return False
    roles = [turn["role"] for turn in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    wanted = [("user", "assistant")[at % 2] for at in range(len(spoken))]
    return bool(spoken) and spoken == wanted and spoken[-1] == last


# --- What two rows have in common ------------------------------------------------------------------


def prompt_of(row: Row) -> list[Turn]:
    """The turns before the answer; none in plain text."""
    if "messages" in row:
        return list(row["messages"][:-1])
    return list(row.get("prompt", ()))


def answer_of(row: Row) -> str:
    """The answer that is to be learnt; in plain text all of it."""
    if "messages" in row:
        return str(row["messages"][-1]["content"])
    return str(next(row[name] for name in ("chosen", "completion", "text") if name in row))


def texts_of(row: Row) -> list[str]:
    """All of its texts, the longest way through it: of a preference pair the longer answer alone."""
    answers = [answer_of(row), row.get("rejected", "")]
    return [*(turn["content"] for turn in prompt_of(row)), max(answers, key=len)]


def question_of(row: Row) -> bytes:
    """A digest of what is asked. Questions that differ in case, spaces or Unicode forms alone have the same.

    In plain text it is the text itself. The system's turn is no question.
    """
    turns = [(turn["role"], turn["content"]) for turn in prompt_of(row) if turn["role"] != "system"]
    return _digest(turns or [("", answer_of(row))])


def content_of(row: Row) -> bytes:
    """A digest of the question with its answer, likewise."""
    rated = [("label", str(row["label"]))] if "label" in row else []
    answers = [("", answer_of(row)), ("", row.get("rejected", "")), *rated]
    return _digest([(turn["role"], turn["content"]) for turn in prompt_of(row)] + answers)


MOST_EARLIER = 50
"""Exchanges of one long conversation that are looked for elsewhere."""


def digests_of(row: Row) -> dict[str, Any]:
    """All digests of a row, as `training.report.Facts` takes them."""
    return {
        "question": question_of(row),
        "content": content_of(row),
        "earlier": [content_of({"messages": turns}) for turns in _earlier(row)],
    }


def _earlier(row: Row) -> Iterator[list[Turn]]:
    """What a conversation was before its last question, as far as it could be a row of its own."""
    turns = row.get("messages", ())
    ends = [at for at, turn in enumerate(turns[:-1], start=1) if turn["role"] == "assistant"]
    for end in ends[:MOST_EARLIER]:
        yield list(turns[:end])


def _digest(parts: Iterable[tuple[str, str]]) -> bytes:
    folded = [
        (role, " ".join(unicodedata.normalize("NFKC", text).casefold().split())) for role, text in parts
    ]
    return hashlib.sha256(json.dumps(folded).encode()).digest()[:16]


# --- Training and evaluation -----------------------------------------------------------------------


def split(rows: Iterable[Row], *, seed: int, fraction: float) -> tuple[list[int], list[int]]:
    """The numbers of the rows (from 0, ascending) to train on, and of those to hold out.

    `fraction` of the rows are held out, as near as it can be had. It depends on nothing but `seed` and the
    questions, so a resumed run splits as before, and rows with the same question are always on one side.
    Where all rows ask the same, none is held out.
    """
    return split_questions(map(question_of, rows), seed=seed, fraction=fraction)


def split_questions(questions: Iterable[bytes], *, seed: int, fraction: float) -> tuple[list[int], list[int]]:
    """`split`, of rows whose digests are known."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        groups[question].append(number)
    held = set(_held_out(groups, seed=seed, fraction=fraction))
    return (
        sorted(number for question, numbers in groups.items() if question not in held for number in numbers),
        sorted(number for question in held for number in groups[question]),
    )


def _held_out(groups: Mapping[bytes, list[int]], *, seed: int, fraction: float) -> Iterator[bytes]:
    """The questions that are held out: drawn by lot, but none with more rows than are still missing."""
    if fraction <= 0 or len(groups) < 2:
        return
    count = sum(map(len, groups.values()))
    # Where every group is larger than that, the smallest is taken. It is never all of them.
    missing = max(1, min(round(count * fraction), count - 1), min(map(len, groups.values())))
    salt = str(seed).encode()
    for question in sorted(groups, key=lambda question: hashlib.sha256(salt + question).digest()):
        if len(groups[question]) <= missing:
            missing -= len(groups[question])
            yield question
