"""Makes a backup while the site runs.

The files come first, then the rows, in one snapshot of the database: what a row names is in the archive
already, or is added while the snapshot lasts. A file that was deleted between the two makes the snapshot
old; then another one is taken. Files of rows that are gone by then are in the archive, and not in its
manifest: a restore leaves them alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from accounts.audit import record
from accounts.models.audit import AuditKind
from llmsite import __version__
from llmsite.backup import tables
from llmsite.backup.archive import ABOUT, FORMAT, MANIFEST, Writer, as_dicts, as_json, new_archive
from llmsite.backup.files import KINDS, Kind, member_of
from llmsite.backup.refusal import Refused

PART_BYTES = 4 << 20
"""Of rows that are gathered in memory before they are written."""
SNAPSHOTS = 5
ROWS = "rows"

Tell = Callable[[str], object]


@dataclass(slots=True)
class Summary:
    """What is in a backup, or came out of one."""

    tables: dict[str, int] = field(default_factory=dict)
    """How many rows of each."""
    files: dict[str, int] = field(default_factory=dict)
    """How many of each kind."""
    missing: list[str] = field(default_factory=list)
    """Files that rows name, and that the site does not have."""


def make(place: Path, *, tell: Tell = lambda _line: None) -> Summary:
    """Write the site, as it is at one moment, to a new file. Raises Refused, DiskFull and OSError.

    `tell` is told how far it is, in lines. Call it outside of transactions.
    """
    about = _about()
    with new_archive(place) as archive:
        archive.add(ABOUT, as_json(about))
        summary = _fill(archive, about, tell)
    record(AuditKind.SITE_BACKED_UP, subject=None, actor=None, rows=sum(summary.tables.values()))
    return summary


def pending_migrations() -> list[str]:
    """What `migrate` would do."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def applied_migrations() -> list[list[str]]:
    return sorted(map(list, MigrationRecorder(connection).applied_migrations()))


@contextmanager
def snapshot() -> Iterator[None]:
    """Within it the database stands still for who reads here, and for nobody else."""
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
        return
    # Not by `atomic`: with our settings that would keep everybody else from writing.
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def _about() -> dict[str, Any]:
    if pending := pending_migrations():
        raise Refused(f"The database is not up to date ({pending[0]} is due): run manage.py migrate first.")
    return {
        "format": FORMAT,
        "site": __version__,
        "made_at": datetime.now(UTC).isoformat(),
        "engine": connection.vendor,
        "migrations": applied_migrations(),
    }


def _fill(archive: Writer, about: dict[str, Any], tell: Tell) -> Summary:
    for kind in KINDS:
        _add_files(archive, kind, tell)
    before: set[str] | None = None
    for _try in range(SNAPSHOTS):
        with snapshot():
            wanted, missing = _files_of_snapshot(archive, tell)
            # What two snapshots miss was not deleted in between: the site has lost it.
            if not missing or missing == before:
                summary = _add_rows(archive, tell)
                summary.missing = sorted(missing)
                _end(archive, about, summary, wanted - missing)
                return summary
        before = missing
    raise Refused("Files were deleted all the time while it was made; try again in a while.")


def _files_of_snapshot(archive: Writer, tell: Tell) -> tuple[set[str], set[str]]:
    """The members of the files that the rows name now, and those that cannot be had."""
    wanted: set[str] = set()
    missing: set[str] = set()
    for kind in KINDS:
        missing |= _add_files(archive, kind, tell)
        wanted |= {member_of(kind, name) for name in kind.wanted()}
    return wanted, missing


def _add_files(archive: Writer, kind: Kind, tell: Tell) -> set[str]:
    """Add those that are wanted now and not in it yet; the members of those that are not there."""
    missing: set[str] = set()
    added = 0
    for name in kind.wanted():
        member = member_of(kind, name)
        if member in archive.parts:
            continue
        try:
            if not kind.form.fullmatch(name):
                raise FileNotFoundError
            archive.add_file(member, kind.root / name)
            added += 1
        except (FileNotFoundError, NotADirectoryError):
            missing.add(member)
    if added:
        tell(f"{kind.name}: {added} files")
    return missing


def _add_rows(archive: Writer, tell: Tell) -> Summary:
    summary = Summary()
    for model in tables.kept_models():
        label = model._meta.label
        part, size, count, number = [], 0, 0, 0
        for row in tables.rows_of(model):
            line = tables.as_line(row)
            part.append(line)
            size, count = size + len(line), count + 1
            if size >= PART_BYTES:
                number += 1
                archive.add(rows_member(label, number), b"".join(part))
                part, size = [], 0
        if part:
            archive.add(rows_member(label, number + 1), b"".join(part))
        summary.tables[label] = count
        if count:
            tell(f"{label}: {count} rows")
    return summary


def rows_member(label: str, number: int) -> str:
    return f"{ROWS}/{label}/{number:06}.jsonl"


def _end(archive: Writer, about: dict[str, Any], summary: Summary, files: set[str]) -> None:
    parts = {
        name: part for name, part in archive.parts.items() if name in files or name.startswith(f"{ROWS}/")
    }
    for kind in KINDS:
        summary.files[kind.name] = sum(name.startswith(member_of(kind, "")) for name in files)
    columns = {model._meta.label: tables.columns_of(model) for model in tables.kept_models()}
    manifest = about | {
        "tables": {
            label: {"rows": rows, "columns": columns[label]} for label, rows in summary.tables.items()
        },
        "files": summary.files,
        "missing": summary.missing,
        "left_out": tables.LEFT_OUT | tables.ALSO_LEFT_OUT,
        "parts": as_dicts(parts),
    }
    archive.add(MANIFEST, as_json(manifest))
