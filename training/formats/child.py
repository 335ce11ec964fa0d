"""The child: takes in a file, gives up whatever it does not need, and answers with its rows.

What it writes are lines: a letter, JSON, and for a row behind a tab the line as it is kept.

H  {"layout", "shape", "mapping"}                         once, before the first row
R  {"line", "tokens", "tools",                            a row, with its digests as hexadecimal digits
    "question", "content", "earlier"}
B  {"line", "code", "data"}                               a row that is not right
E  {}                                                     the end
F  {"line", "code", "data"}                               the end of a file that cannot be read any further
"""

import codecs
import json
import os
import sys
from dataclasses import asdict
from typing import IO, Any

from training.formats.files import Broken
from training.formats.problems import Unreadable
from training.formats.reader import Good, Head, read
from training.rows import Row, digests_of, line_of
from training.tokens import Counter, counter_of, length_of

CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "ascii", "idna")


def main() -> None:
    """The arguments are two folders for imports, and the options; the file is the standard input."""
    options, parent = json.loads(sys.argv[3]), os.getppid()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Threads cannot be started any more.
    os.nice(10)
    count = counter_of(options["tokenizer"])
    for name in CODECS:
        codecs.lookup(name)  # Codecs are modules, which are found only as long as files can be opened.
    if options["kind"] == "parquet":
        import pyarrow.parquet  # noqa: F401 – likewise
    data = sys.stdin.buffer.read()
    from child.lockdown import lock_down  # type: ignore[import-not-found]  # of embeddings/parsing

    lock_down(memory=options["memory"], cpu=options["cpu"], parent=parent)
    out = sys.stdout.buffer
    try:
        for found in read(options["kind"], data, columns=options["columns"]):
            _tell(out, found, count, options["most_tokens"])
        _say(out, b"E", {})
    except Unreadable as error:
        _say(out, b"F", {"line": error.line, "code": error.code, "data": error.data})
    except MemoryError:
        _say(out, b"F", {"line": None, "code": "out_of_memory", "data": {}})
    out.flush()


def _tell(out: IO[bytes], found: Head | Good | Broken, count: Counter, most: int | None) -> None:
    if isinstance(found, Head):
        _say(out, b"H", asdict(found))
    elif isinstance(found, Broken):
        _say(out, b"B", asdict(found))
    elif (tokens := length_of(found.row, count)) > (most or tokens):
        _say(out, b"B", asdict(Broken(found.line, "too_many_tokens", {"tokens": tokens, "limit": most})))
    else:
        said = {"line": found.line, "tokens": tokens, "tools": found.has_tools, **_digests(found.row)}
        _say(out, b"R", said, found.row)


def _digests(row: Row) -> dict[str, Any]:
    found = digests_of(row)
    return found | {
        "question": found["question"].hex(),
        "content": found["content"].hex(),
        "earlier": [digest.hex() for digest in found["earlier"]],
    }


def _say(out: IO[bytes], kind: bytes, said: dict[str, Any], row: Row | None = None) -> None:
    line = kind + json.dumps(said, separators=(",", ":")).encode()
    out.write(line + (b"\t" + line_of(row) if row is not None else b"\n"))
