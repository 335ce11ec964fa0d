"""What is seen in the rows of a data set: how long they are, and which of them are there twice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.rows import split_questions

HELD_OUT = 0.1
"""The share that is held out where the report looks for leaks."""
NAMED = 20
BARS = 12


@dataclass(slots=True)
class Facts:
    """Of each row its line, its length, and the digests of `training.rows`."""

    lines: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    questions: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    earlier: list[list[bytes]] = field(default_factory=list)
    """What stands in a row before its last question, each exchange as if it were a row."""

    def add(
        self, *, line: int, tokens: int, question: bytes, content: bytes, earlier: Sequence[bytes] = ()
    ) -> None:
        self.lines.append(line)
        self.tokens.append(tokens)
        self.questions.append(question)
        self.contents.append(content)
        self.earlier.append(list(earlier))

    @property
    def count(self) -> int:
        return len(self.lines)


def report_of(facts: Facts, *, cases: Iterable[bytes], unit: str, limit: int) -> dict[str, Any]:
    """The report of a version. `cases` are the questions of the evaluation cases, `limit` a model's context.

    Lines are those of the file; at most 20 are named of each kind.
    """
    return {
        "tokens": _lengths(facts, unit=unit, limit=limit if unit == "tokens" else None),
        "duplicates": _named(_repeated(facts.contents), facts),
        "same_question": _named(_other_answers(facts), facts),
        "leaks": {
            "cases": _named(_in_cases(facts, set(cases)), facts),
            "held_out": _named(_held_out_leaks(facts), facts),
        },
    }


def _lengths(facts: Facts, *, unit: str, limit: int | None) -> dict[str, Any]:
    lengths = sorted(facts.tokens)
    over = [number for number, length in enumerate(facts.tokens) if limit is not None and length > limit]
    bars = _bars(lengths)
    return {
        "unit": unit,
        "total": sum(lengths),
        "median": lengths[len(lengths) // 2],
        "p95": lengths[min(len(lengths) - 1, len(lengths) * 95 // 100)],
        "longest": lengths[-1],
        "over": {"limit": limit, **_named(over, facts)},
        "bars": bars,
        "tallest": max(count for _, count in bars),
    }


def _bars(lengths: Sequence[int]) -> list[list[int]]:
    """How many rows are how long: [up to this length, rows], in steps of equal width."""
    width = max(1, -(-(lengths[-1] + 1) // BARS))
    counts = [0] * BARS
    for length in lengths:
        counts[length // width] += 1
    return [[(at + 1) * width - 1, count] for at, count in enumerate(counts)]


def _repeated(contents: Sequence[bytes]) -> list[int]:
    """The rows that are there before, with the same question and answer."""
    seen: set[bytes] = set()
    repeated = []
    for number, content in enumerate(contents):
        if content in seen:
            repeated.append(number)
        seen.add(content)
    return repeated


def _other_answers(facts: Facts) -> list[int]:
    """The rows whose question was answered otherwise before."""
    first: dict[bytes, bytes] = {}
    return [
        number
        for number, (question, content) in enumerate(zip(facts.questions, facts.contents, strict=True))
        if first.setdefault(question, content) != content
    ]


def _in_cases(facts: Facts, cases: set[bytes]) -> list[int]:
    """The rows that teach what models are examined with."""
    return [number for number, question in enumerate(facts.questions) if question in cases]


def _held_out_leaks(facts: Facts) -> list[int]:
    """Rows that would be held out although a row that is trained on has them as its earlier exchange."""
    train, held = split_questions(facts.questions, seed=0, fraction=HELD_OUT)
    taught = {digest for number in train for digest in facts.earlier[number]}
    return [number for number in held if facts.contents[number] in taught]


def _named(numbers: Sequence[int], facts: Facts) -> dict[str, Any]:
    return {"rows": len(numbers), "lines": [facts.lines[number] for number in numbers[:NAMED]]}
