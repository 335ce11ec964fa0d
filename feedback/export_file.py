"""An export as a file, with another one beside it that says where each row comes from.

Both are put in place whole or not at all, and only their owner may read them: they hold what people wrote.
"""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from django.utils import timezone

from feedback.export import COLUMNS, ExportFormat, ExportRow, rows
from llmsite.core.disk import telling_when_full

PROVENANCE = ".provenance.json"
"""What the name of the file beside ends with."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What begins so, a spreadsheet would compute."""


def write(wanted: ExportFormat, path: Path, *, on_row: Callable[[int], object] = lambda _: None) -> int:
    """Write all rows into `path`, in place of what was there; how many there are.

    Without rows nothing is written. `on_row` is called with the number of each. Raises DiskFull and OSError.
    """
    with telling_when_full(), tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        data, provenance = Path(folder, "data"), Path(folder, "provenance")
        number = _write_both(wanted, data, provenance, on_row)
        if number:
            os.replace(provenance, provenance_of(path))
            os.replace(data, path)
    return number


def provenance_of(path: Path) -> Path:
    return path.with_name(path.name + PROVENANCE)


def _write_both(wanted: ExportFormat, data: Path, provenance: Path, on_row: Callable[[int], object]) -> int:
    number = 0
    with _create(provenance) as sources:
        head = {"format": wanted.value, "exported_at": timezone.now().isoformat()}
        sources.write(json.dumps(head)[:-1] + ', "sources": [')
        with _create(data) as file:
            write_row = _row_writer(wanted, file)
            for number, row in enumerate(rows(wanted), start=1):
                write_row(row.data)
                sources.write((",\n" if number > 1 else "\n") + json.dumps(_source(row)))
                on_row(number)
            _settle(file)
        tail = {"rows": number, "sha256": _digest(data)}
        sources.write("\n], " + json.dumps(tail)[1:] + "\n")
        _settle(sources)
    return number


def _create(path: Path) -> TextIO:
    private = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return open(private, "w", encoding="utf-8", newline="")


def _settle(file: TextIO) -> None:
    """Have it on the disk before its name says that it is there."""
    file.flush()
    os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(row: ExportRow) -> dict[str, Any]:
    """Where one row comes from, in the order of the rows."""
    return {
        "feedback": str(row.feedback_id),
        "message": str(row.message_id),
        "author": str(row.author),
        "consented_at": row.consented_at.isoformat(),
        "model": row.model,
        "adapter": row.adapter,
    }


def _row_writer(wanted: ExportFormat, file: TextIO) -> Callable[[dict[str, Any]], object]:
    if wanted is not ExportFormat.CSV:
        return lambda data: file.write(json.dumps(data, ensure_ascii=False) + "\n")
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    return lambda data: writer.writerow(dict(_cells(data)))


def _cells(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        is_formula = isinstance(value, str) and value.startswith(_FORMULA)
        yield name, f"'{value}" if is_formula else value
