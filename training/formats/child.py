"""The child: takes in a file, gives up whatever it does not need, and answers with its rows.

What it writes are lines: a letter, JSON, and for a row behind a tab the line as it is kept.

H  {"layout", "shape", "mapping"}                         once, before the first row
R  {"line", "tokens", "question", "content", "earlier"}   a row, with its digests as hexadecimal digits
B  {"line", "code", "data"}                               a row that is not right
E  {"rows", "bad"}                                        the end
F  {"line", "code", "data"}                               the end of a file that could not be read so far
"""

import codecs
import json
import os
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import IO, Any

from training.formats.files import Broken, Read, Record, records
from training.formats.problems import BadRow, Unreadable
from training.formats.shapes import Shape, detect, mapping_of, renamed
from training.rows import Row, digests_of, line_of
from training.tokens import Counter, counter_of, length_of

SAMPLE = 50
"""Records in which columns are looked for."""
CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "ascii", "idna")


def main() -> None:
    """The arguments are two folders for imports, and the options; the file is the standard input."""
    options = json.loads(sys.argv[3])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Threads cannot be started any more.
    os.nice(10)
    count = counter_of(options["tokenizer"])
    for name in CODECS:
        codecs.lookup(name)  # Codecs are modules, which are found only as long as files can be opened.
    if options["kind"] == "parquet":
        import pyarrow.parquet  # noqa: F401 – likewise
    data = sys.stdin.buffer.read()
    out = sys.stdout.buffer
    from child.lockdown import lock_down  # type: ignore[import-not-found]  # of embeddings/parsing

    lock_down(memory=options["memory"], cpu=options["cpu"])
    try:
        _answer(out, options, data, count)
    except Unreadable as error:
        _say(out, b"F", {"line": error.line, "code": error.code, "data": error.data})
    except MemoryError:
        _say(out, b"F", {"line": None, "code": "out_of_memory", "data": {}})
    out.flush()


def _answer(out: IO[bytes], options: dict[str, Any], data: bytes, count: Counter) -> None:
    found = _named(records(options["kind"], data), options["columns"])
    first = list(islice(found, SAMPLE))
    sample = [record.data for record in first if isinstance(record, Record)]
    shape = detect(sample)
    if shape is None:
        raise _unknown(first, sample)
    names = list(dict.fromkeys(name for record in sample for name in record))
    head = {"layout": shape.layout, "shape": shape.name, "mapping": mapping_of(shape, names)}
    _say(out, b"H", head)
    rows = bad = 0
    for record in chain(first, found):
        try:
            for row in _rows(shape, record):
                tokens = _tokens(row, count, options["most_tokens"])
                _say(out, b"R", {"line": record.line, "tokens": tokens, **_digests(row)}, row)
                rows += 1
        except BadRow as error:
            _say(out, b"B", {"line": record.line, "code": error.code, "data": error.data})
            bad += 1
    _say(out, b"E", {"rows": rows, "bad": bad})


def _named(found: Read, columns: dict[str, str]) -> Read:
    for record in found:
        yield Record(record.line, renamed(record.data, columns)) if isinstance(record, Record) else record


def _unknown(first: list[Record | Broken], sample: list[dict[str, Any]]) -> Unreadable:
    """Why nothing is known of a file: it has nothing, or nothing that can be read, or not by these names."""
    if sample:
        names = ", ".join(str(name)[:40] for name in list(sample[0])[:12])
        return Unreadable("no_shape", line=first[0].line, names=names)
    if isinstance(broken := next(iter(first), None), Broken):
        return Unreadable(broken.code, line=broken.line, **broken.data)
    return Unreadable("no_rows")


def _rows(shape: Shape, record: Record | Broken) -> Iterator[Row]:
    """Raises BadRow."""
    if isinstance(record, Broken):
        raise BadRow(record.code, **record.data)
    # All of them before the first is told: a record is taken whole or not at all.
    yield from list(shape.convert(record.data))


def _tokens(row: Row, count: Counter, most: int | None) -> int:
    """How long a row is. Raises BadRow where that is more than a model takes."""
    tokens = length_of(row, count)
    if most is not None and tokens > most:
        raise BadRow("too_many_tokens", tokens=tokens, limit=most)
    return tokens


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
