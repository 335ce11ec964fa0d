"""CSV: each row becomes lines of "column: value", so that a piece of it says what its numbers are."""

import csv
from collections.abc import Iterable
from io import StringIO

from .plain import decode, prepare
from .text import Blocks, Content, Unreadable

SAMPLE = 16_384
DELIMITERS = ",;\t|"

__all__ = ["prepare", "read"]


def read(data: bytes) -> Content:
    blocks = Blocks()
    try:
        for row in rows_as_text(_rows(decode(data))):
            blocks.add(row)
    except csv.Error as error:
        raise Unreadable("damaged") from error
    return Content([blocks.page()])


def rows_as_text(rows: Iterable[list[str]]) -> Iterable[str]:
    names: list[str] | None = None
    for row in rows:
        if names is None:
            names = row if _are_names(row) else []
            if names:
                continue
        yield _row_as_text(names, row)


def _rows(text: str) -> Iterable[list[str]]:
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:SAMPLE], DELIMITERS)
    except csv.Error:
        dialect = csv.excel
    rows = csv.reader(StringIO(text, newline=""), dialect)
    return (row for row in rows if any(cell.strip() for cell in row))


def _are_names(row: list[str]) -> bool:
    """Whether a first row names the columns: each cell is a word of its own, and none a number."""
    words = [cell.strip() for cell in row]
    return all(words) and len(set(words)) == len(words) and not any(_is_number(word) for word in words)


def _is_number(word: str) -> bool:
    return word.lstrip("+-$€").replace(".", "").replace(",", "").rstrip("%").isdigit()


def _row_as_text(names: list[str], row: list[str]) -> str:
    named = [*names[: len(row)], *[""] * (len(row) - len(names))]
    cells = [(name.strip(), " ".join(cell.split())) for name, cell in zip(named, row, strict=True)]
    return "\n".join(f"{name}: {cell}" if name else cell for name, cell in cells if cell)
