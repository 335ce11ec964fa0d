"""Reads a document in a child process, and believes nothing of what comes back before it has looked at it."""

import errno
import re
import socket
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from embeddings.parsing import limits, sandbox
from embeddings.parsing.child.text import has_text
from embeddings.parsing.reasons import ParsingFailed, Reason

# The database takes no zero byte, and no half of a pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """`headings` are (offset into `text` in characters, heading), in the order of the text."""

    number: int
    text: str
    headings: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Parsed:
    """Pages are numbered from 1; a format without pages has one, and `is_paged` is False."""

    pages: list[ParsedPage]
    is_paged: bool
    title: str

    @property
    def characters(self) -> int:
        return sum(len(page.text) for page in self.pages)


def parse(path: str | PathLike[str], media_type: str) -> Parsed:
    """The text of a stored document, in NFKC. Takes half a minute at most. Raises ParsingFailed."""
    try:
        with open(path, "rb") as source:
            said = sandbox.run(media_type, source, memory=limits.MOST_MEMORY, cpu=limits.MOST_CPU)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ParsingFailed(Reason.DISK_FULL, error.strerror or "") from error
        raise
    try:
        return _parsed(said)
    except (KeyError, TypeError, ValueError) as error:
        raise ParsingFailed(Reason.CRASHED, "what it said makes no sense") from error


def _parsed(said: dict[str, Any]) -> Parsed:
    pages = [_page(number, one) for number, one in enumerate(said["pages"], start=1)]
    if not any(has_text(page.text) for page in pages):
        raise ParsingFailed(Reason.EMPTY)
    return Parsed(pages, said["is_paged"] is True, _text(said["title"]))


def _page(number: int, said: dict[str, Any]) -> ParsedPage:
    text = _text(said["text"])
    if said["number"] != number:
        raise ValueError(number)
    headings = [(_offset(at, text), _text(heading)) for at, heading in said["headings"]]
    return ParsedPage(number, text, sorted(headings, key=lambda heading: heading[0]))


def _text(said: object) -> str:
    if not isinstance(said, str) or UNSTORABLE.search(said):
        raise ValueError
    return said


def _offset(said: object, text: str) -> int:
    if not isinstance(said, int) or not 0 <= said <= len(text):
        raise ValueError(said)
    return said


def limits_in_force() -> dict[str, bool]:
    """What a child is kept from on this machine: tried in children, which takes seconds."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        kept = Path(folder, "kept")
        kept.touch()
        port = listener.getsockname()[1]
        said = _probe(kept, cpu=limits.MOST_CPU, task="refusals", file=str(kept), folder=folder, port=port)
        return {
            **{str(name): held is True for name, held in said["refused"].items()},
            "memory": _ends(kept, Reason.OUT_OF_MEMORY, cpu=limits.MOST_CPU, task="memory"),
            "time": _ends(kept, Reason.TOO_SLOW, cpu=1, task="time"),
        }


def _probe(source: Path, **options: Any) -> dict[str, Any]:
    with source.open("rb") as opened:
        return sandbox.run("probe", opened, memory=limits.MOST_MEMORY, **options)


def _ends(source: Path, reason: Reason, **options: Any) -> bool:
    try:
        _probe(source, **options)
    except ParsingFailed as failure:
        return failure.reason == reason
    return False
