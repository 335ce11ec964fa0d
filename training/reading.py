"""Reads a file of a data set in a child process, and believes nothing of what comes back before it looked.

A file of 50 MB takes seconds to read, and one may be made to take gigabytes: nothing for a web process. The
child (`training.formats.child`) sees that file and nothing else, as a parser of documents does.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import IO, Any

from django.conf import settings

from embeddings.uploads import BINARY
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import DatasetUnreadable, TooLarge, UnsupportedDataset
from training.models import Layout
from training.problems import Problem
from training.report import Facts
from training.rows import Row, is_row, line_of
from training.tokens import tokenizer_file

KINDS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".txt": "txt", ".parquet": "parquet"}
PARQUET = b"PAR1"
NO_TEXT = (*BINARY, PARQUET, b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY", b"ARROW1")
"""How files begin that are no text: pickles and arrays among them."""

MEBIBYTE = 1 << 20
MOST_MEMORY = 1536 * MEBIBYTE
"""Bytes of address space of the child: a JSON file of the largest size, decoded."""
MOST_CPU, MOST_TIME = 120, 180
"""Seconds of the processor, and on the clock."""
MOST_OUTPUT = 512 * MEBIBYTE
MOST_LINE = 16 * MEBIBYTE
SHOWN_ROWS = 5
NAMED_PROBLEMS = 100
"""How many rows that are not right are kept with their reasons; the others are counted."""

START = "import sys; sys.path[:0] = sys.argv[1:3]; from training.formats.child import main; main()"
LOCKDOWN = Path("embeddings", "parsing")
"""The folder whose package `child` has the lock."""
OUT_OF_MEMORY = {signal.SIGKILL, signal.SIGABRT, signal.SIGILL, signal.SIGTRAP, signal.SIGSEGV}


@dataclass(slots=True)
class Reading:
    """What was read of a file; the rows themselves went where they were to be kept."""

    layout: str = ""
    shape: str = ""
    mapping: dict[str, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    first: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    bad: int = 0
    tools: int = 0
    """Rows in which what tools were asked, or gave, became plain text."""
    is_whole: bool = False


def kind_of(name: str, path: Path) -> str:
    """Of which kind a file is: its name and its first bytes have to agree. Raises UnsupportedDataset."""
    kind = KINDS.get(Path(name).suffix.lower())
    with path.open("rb") as file:
        head = file.read(16)
    is_parquet = head.startswith(PARQUET)
    if kind is None or is_parquet != (kind == "parquet") or (not is_parquet and head.startswith(NO_TEXT)):
        raise UnsupportedDataset(field="file")
    return kind


def read(
    path: Path,
    kind: str,
    *,
    columns: Mapping[str, str],
    most_tokens: int | None,
    keep: Callable[[bytes], object],
) -> Reading:
    """Read all rows of a file and hand their lines to `keep`. Rows over `most_tokens` are not right.

    Raises DatasetUnreadable where the file as a whole makes no sense, TooLarge, and what `keep` raises.
    """
    tokenizer = tokenizer_file()
    options = {
        "kind": kind,
        "columns": dict(columns),
        "most_tokens": most_tokens,
        "tokenizer": str(tokenizer) if tokenizer else None,
        "memory": MOST_MEMORY,
        "cpu": MOST_CPU,
    }
    reading = Reading()
    with path.open("rb") as source, _child(source, options) as process:
        assert process.stdout is not None
        try:
            for line in _lines(process.stdout):
                _take(reading, line, keep)
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable("crashed") from error
        if not reading.is_whole:
            raise unreadable(_why(process))
    return reading


def unreadable(code: str, *, line: int | None = None, **data: Any) -> DatasetUnreadable:
    return DatasetUnreadable(reason=Problem(code, line=line, data=data).sentence, field="file")


def refusal_of(reading: Reading) -> DatasetUnreadable:
    """What is said of a file with rows that are not right: the first of them, and how many there are."""
    return DatasetUnreadable(reason=Problem.several(reading.problems, reading.bad), field="file")


# --- What the child says ----------------------------------------------------------------------------


def _lines(output: IO[bytes]) -> Iterator[bytes]:
    """Raises TooLarge, and ValueError for what is no line."""
    read = 0
    while line := output.readline(MOST_LINE):
        read += len(line)
        if read > MOST_OUTPUT:
            raise TooLarge(field="file", limit=MOST_OUTPUT // MEBIBYTE, unit="MB")
        if not line.endswith(b"\n"):
            raise ValueError("a line without its end")
        yield line


def _take(reading: Reading, line: bytes, keep: Callable[[bytes], object]) -> None:
    """Raises KeyError, TypeError or ValueError for what makes no sense, and DatasetUnreadable."""
    said, _, row = line[1:].partition(b"\t")
    values = json.loads(said)
    match line[:1]:
        case b"H":
            reading.layout = Layout(values["layout"]).value
            reading.shape = str(values["shape"])
            reading.mapping = {str(name)[:100]: str(role) for name, role in values["mapping"].items()}
        case b"R":
            _take_row(reading, values, row, keep)
        case b"B":
            reading.bad += 1
            if len(reading.problems) < NAMED_PROBLEMS:
                reading.problems.append(Problem.read(values))
        case b"E":
            reading.is_whole = bool(reading.layout)
        case b"F":
            problem = Problem.read(values)
            raise DatasetUnreadable(reason=problem.sentence, field="file")
        case _:
            raise ValueError(line[:1])


def _take_row(reading: Reading, values: dict[str, Any], line: bytes, keep: Callable[[bytes], object]) -> None:
    row = json.loads(line)
    if not is_row(row, reading.layout) or line_of(row) != line:
        raise ValueError("no row")
    reading.facts.add(
        line=int(values["line"]),
        tokens=int(values["tokens"]),
        question=bytes.fromhex(values["question"]),
        content=bytes.fromhex(values["content"]),
        earlier=[bytes.fromhex(digest) for digest in values["earlier"]],
    )
    reading.tools += bool(values["tools"])
    if len(reading.first) < SHOWN_ROWS:
        reading.first.append(row)
    keep(line)


# --- The process ------------------------------------------------------------------------------------


@contextmanager
def _child(source: IO[bytes], options: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    root = Path(settings.BASE_DIR)
    command = [sys.executable, "-I", "-c", START, str(root), str(root / LOCKDOWN), json.dumps(options)]
    with telling_when_full():
        folder = tempfile.mkdtemp(prefix="llmsite-dataset-")
    try:
        process = subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
    finally:
        # The child is in it, and nothing can be made in a folder that has no name any more.
        os.rmdir(folder)
    killer = Timer(MOST_TIME, _kill, [process.pid])
    killer.start()
    with process:
        try:
            yield process
        finally:
            killer.cancel()
            if process.returncode is None:
                _kill(process.pid)


def _kill(leader: int) -> None:
    """A child and whatever it started: they are one session."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _why(process: subprocess.Popen[bytes]) -> str:
    """What the end of a child means that did not come to the end of its file."""
    status = process.wait()
    if status == -signal.SIGXCPU:
        return "too_slow"
    return "out_of_memory" if -status in OUT_OF_MEMORY else "crashed"
