"""Files become records: objects with the line on which they begin.

What cannot be read is a `Broken` in its place, and the records behind it follow where they can be told apart.
"""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from training.formats.problems import Unreadable

MOST_ROWS = 1_000_000
MOST_LINES = 5_000_000
"""Of a text; a row may have several."""
MOST_CHARACTERS = 1_000_000
"""Of one row."""
MOST_UNPACKED = 1_000_000_000
"""Bytes of a Parquet file, by its own word; the process has a limit of its own besides."""
BATCH = 500

BLANK = re.compile(r"[ \t\r\n]*")
PARAGRAPH = re.compile(r"\S.*?(?=\n[ \t]*\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Record:
    """`line` is counted from 1; in Parquet, which has no lines, it is the number of the row."""

    line: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """A place that is no record."""

    line: int
    code: str
    data: dict[str, Any] = field(default_factory=dict)


Read = Iterator[Record | Broken]


def records(kind: str, data: bytes, *, known: Set[str]) -> Read:
    """What is in a file of `kind`: "json", "jsonl", "csv", "txt" or "parquet". Raises Unreadable.

    Where columns can be read one by one, those that are not `known` by their names in lower case are not: in
    a record they are None.
    """
    if kind != "parquet" and data.count(b"\n") > MOST_LINES:
        raise Unreadable("too_many_lines", line=MOST_LINES + 1, limit=MOST_LINES)
    count = 0
    found = _parquet(data, known) if kind == "parquet" else READERS[kind](data)
    for count, record in enumerate(found, start=1):
        if count > MOST_ROWS:
            raise Unreadable("too_many_rows", line=record.line, limit=MOST_ROWS)
        yield record


# --- Text ------------------------------------------------------------------------------------------


def decoded(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 where its first bytes say so. Raises Unreadable, and names the line."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable("not_utf8", line=data.count(b"\n", 0, error.start) + 1) from error
    return text.replace("\r\n", "\n")


def _text(data: bytes) -> Read:
    """Each paragraph is a row; where no line is blank, each line is one."""
    text = decoded(data)
    by_lines = re.search(r"\n[ \t]*\n", text.strip()) is None
    line, at = 1, 0
    for found in re.finditer(r"\S.*", text) if by_lines else PARAGRAPH.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        yield Record(line, {"text": found[0].rstrip()})


def _csv(data: bytes) -> Read:
    """The first row names the columns."""
    text = decoded(data)
    csv.field_size_limit(MOST_CHARACTERS)
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    names: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Broken(line, "too_long" if "field limit" in str(error) else "not_csv")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [cell.strip() for cell in cells]
        elif len(cells) != len(names):
            yield Broken(line, "cells", {"count": len(cells), "columns": len(names)})
        else:
            yield Record(line, dict(zip(names, cells, strict=True)))


def _delimiter(text: str) -> str:
    """The one that the first line has most of."""
    head = text.lstrip().partition("\n")[0]
    return max(",;\t|", key=head.count)


# --- JSON ------------------------------------------------------------------------------------------


def _json_lines(data: bytes) -> Read:
    text = decoded(data)
    if text[BLANK.match(text).end() :][:1] == "[":  # type: ignore[union-attr]
        yield from _json(data)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _record(number, line)


def _record(number: int, line: str) -> Record | Broken:
    if len(line) > MOST_CHARACTERS:
        return Broken(number, "too_long", {"limit": MOST_CHARACTERS})
    try:
        found = _DECODER.decode(line)
    except (ValueError, RecursionError):
        return Broken(number, "not_json")
    return Record(number, found) if isinstance(found, dict) else Broken(number, "no_object")


def _json(data: bytes) -> Read:
    """A list of objects, or an object that has one such list; also JSON lines by the wrong name."""
    text = decoded(data)
    start = _after_blank(text, 0)
    if text[start : start + 1] == "[":
        yield from _items(text, start + 1)
        return
    first, end = _value(text, start)
    if not isinstance(first, dict):
        yield Broken(1, "no_object")
    elif _after_blank(text, end) < len(text):
        yield from _json_lines(data)
    elif (inner := _list_in(text, start, first)) is not None:
        yield from _items(text, inner + 1)
    else:
        yield Record(text.count("\n", 0, start) + 1, first)


def _items(text: str, at: int) -> Read:
    """The items of the list that is open at `at`."""
    line, counted = text.count("\n", 0, at) + 1, at
    at = _after_blank(text, at)
    while text[at : at + 1] != "]":
        line += text.count("\n", counted, at)
        counted = at
        found, end = _value(text, at)
        yield _item(line, found, end - at)
        at = _after_blank(text, end)
        if text[at : at + 1] == ",":
            at = _after_blank(text, at + 1)
        elif text[at : at + 1] != "]":
            raise Unreadable("not_json", line=text.count("\n", 0, at) + 1)


def _item(line: int, found: object, length: int) -> Record | Broken:
    if not isinstance(found, dict):
        return Broken(line, "no_object")
    if length > MOST_CHARACTERS:
        return Broken(line, "too_long", {"limit": MOST_CHARACTERS})
    return Record(line, found)


def _list_in(text: str, start: int, found: dict[str, Any]) -> int | None:
    """Where the only list of objects begins that is a value of the object at `start`."""
    lists = [name for name, value in found.items() if isinstance(value, list) and value]
    if len(lists) != 1 or not all(isinstance(item, dict) for item in found[lists[0]]) or len(found) > 5:
        return None
    if "messages" in lists or "conversations" in lists:
        return None  # One row, not a list of them.
    at = start + 1
    while True:
        name, at = _value(text, _after_blank(text, at))
        at = _after_blank(text, _after_blank(text, at) + 1)
        if name == lists[0]:
            return at
        _, at = _value(text, at)
        at = _after_blank(text, at) + 1


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise Unreadable("not_json", line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("not_json", line=text.count("\n", 0, at) + 1) from error


def _after_blank(text: str, at: int) -> int:
    return BLANK.match(text, at).end()  # type: ignore[union-attr]


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


# --- Parquet ---------------------------------------------------------------------------------------


def _parquet(data: bytes, known: Set[str]) -> Read:
    """No column is ever unpickled: there are values of Arrow's own types only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
        if file.metadata.num_rows > MOST_ROWS:
            raise Unreadable("too_many_rows", line=MOST_ROWS + 1, limit=MOST_ROWS)
        groups = [file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups)]
        if sum(groups) > MOST_UNPACKED:
            raise Unreadable("too_large")
        names = file.schema_arrow.names
        wanted = [name for name in names if name.strip().lower() in known]
        if not wanted and file.metadata.num_rows:
            yield Record(1, dict.fromkeys(names))
            return
        for batch in file.iter_batches(batch_size=BATCH, columns=wanted, use_threads=False):
            for found in batch.to_pylist():
                number += 1
                yield _item(number, dict.fromkeys(names) | found, 0)
    except MemoryError:
        raise  # Arrow's own is one of its other errors, too.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable("damaged", line=number or None) from error


READERS: dict[str, Callable[[bytes], Read]] = {
    "json": _json,
    "jsonl": _json_lines,
    "csv": _csv,
    "txt": _text,
}
