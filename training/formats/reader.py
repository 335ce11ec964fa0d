"""A whole file: its head, then its rows, and what is not right among them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from training.formats.files import Broken, Read, Record, records
from training.formats.problems import BadRow, Unreadable
from training.formats.shapes import Shape, detect, known_columns, mapping_of, renamed
from training.formats.turns import has_tools
from training.rows import Row

SAMPLE = 50
"""Records in which columns are looked for."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the file is: told once, before the first row. `mapping` says what becomes of each column."""

    layout: str
    shape: str
    mapping: dict[str, str]


@dataclass(frozen=True, slots=True)
class Good:
    """A row, and on which line it begins in the file."""

    line: int
    row: Row
    has_tools: bool = False
    """Whether turns of tools became turns of the two who talk."""


def read(kind: str, data: bytes, *, columns: Mapping[str, str]) -> Iterator[Head | Good | Broken]:
    """Raises Unreadable where nothing is known of the file, or of what is behind a place in it."""
    found = _named(records(kind, data, known=known_columns(columns)), columns)
    first = list(islice(found, SAMPLE))
    sample = [record.data for record in first if isinstance(record, Record)]
    shape = detect(sample)
    if shape is None:
        raise _unknown(first, sample)
    names = list(dict.fromkeys(name for record in sample for name in record))
    yield Head(shape.layout, shape.name, mapping_of(shape, names))
    for record in chain(first, found):
        yield from _rows(shape, record)


def _named(found: Read, columns: Mapping[str, str]) -> Read:
    for record in found:
        yield Record(record.line, renamed(record.data, columns)) if isinstance(record, Record) else record


def _unknown(first: list[Record | Broken], sample: list[dict[str, Any]]) -> Unreadable:
    """Why nothing is known: the file has nothing, or nothing that can be read, or not by these names."""
    if sample:
        names = ", ".join(str(name)[:40] for name in list(sample[0])[:12])
        return Unreadable("no_shape", line=first[0].line, names=names)
    if isinstance(broken := next(iter(first), None), Broken):
        return Unreadable(broken.code, line=broken.line, **broken.data)
    return Unreadable("no_rows")


def _rows(shape: Shape, record: Record | Broken) -> Iterator[Good | Broken]:
    """A record is taken whole or not at all."""
    if isinstance(record, Broken):
        yield record
        return
    try:
        rows = list(shape.convert(record.data))
    except BadRow as error:
        yield Broken(record.line, error.code, error.data)
    except MemoryError:
        raise
    except Exception:
        # Nobody thought of such values; the rows behind it may be right.
        yield Broken(record.line, "values")
    else:
        tools = has_tools(record.data)
        yield from (Good(record.line, row, tools) for row in rows)
