"""The file of an SQLite: whether it is there, whole, and can be written. It is only read, and never made."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from llmsite.doctor.findings import Finding, failed

SECONDS = 10.0
"""How long a file is read in search of damage; a larger one is read in part."""
STEPS = 10_000
"""Of SQLite's own machine, between two looks at the clock."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def look_at_file(name: str) -> Iterator[Finding]:
    """What is wrong with the file `name`: nothing, or one failure."""
    if name == ":memory:" or "mode=memory" in name:
        return
    file = Path(name)
    if not file.parent.is_dir():
        todo = "Make it, or correct DATABASE_URL."
        yield failed("database", f"There is no folder {file.parent} for the database.", todo)
    elif place := _closed(file):
        todo = f"Let the site's user write to {file} and its folder, on a file system that is not read-only."
        yield failed("database", f"SQLite cannot write to {place}.", todo)
    elif not file.exists() or not file.stat().st_size:
        yield failed("database", f"There is no database yet: {file}.", "Run: python manage.py migrate")
    elif _is_damaged(file):
        todo = (
            f"Restore a backup: stop the site, move {file.name} away, then python manage.py migrate and "
            "python manage.py restore FILE. What lies in it cannot be looked at meanwhile."
        )
        yield failed("database", f"The database is damaged: {file}.", todo)


def _closed(file: Path) -> Path | None:
    """What SQLite has to write and this process may not: the folder, the file, or one of those beside it."""
    beside = [file.with_name(file.name + end) for end in ("-wal", "-shm")]
    return next(
        (one for one in (file.parent, file, *beside) if one.exists() and not os.access(one, os.W_OK)), None
    )


def _is_damaged(file: Path) -> bool:
    """Other failures, such as a lock, are told where the database itself is asked."""
    until = time.monotonic() + SECONDS
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            database.set_progress_handler(lambda: time.monotonic() > until, STEPS)
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError as error:
        # The last eight bits are the kind, those before them the case.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
