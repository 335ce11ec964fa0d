"""The tables of a backup: which there are, how a row is written as JSON, and how it is read.

A row is a list of values in the order of the columns, the same for SQLite and PostgreSQL: numbers, texts
and JSON as they are, moments in ISO 8601 with microseconds, UUIDs and decimals as text, bytes in base64.
The field of a column reads them back (`Field.to_python`).
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management.color import no_style
from django.db import connection, models
from django_tasks_db.models import DBTaskResult

from accounts.models import AuditEvent
from embeddings.indexes import pgvector_index
from llmsite.core import bulk

Model = type[models.Model]

ROWS_AT_ONCE = 500
NOT_TAKEN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What fields and drivers raise at a value of another kind."""

LEFT_OUT = {
    "accounts.Session": "sign-ins: everybody signs in anew after a restore",
    "accounts.RefreshToken": "sign-ins: everybody signs in anew after a restore",
    "inference.EngineProcess": "the processes of that moment",
    "inference.AdapterLoad": "what the processes of that moment had loaded",
}
"""Tables whose rows mean nothing on another day, and why."""

ALSO_LEFT_OUT = {
    "django_tasks_database.DBTaskResult": "the tasks that have ended; those that wait are in it",
    "search indexes": "they are made anew out of the chunks of documents",
    "models": "MODELS_ROOT: the weights that the site downloads or is given",
    "runs under way": "TRAINING_ROOT: a training that was running begins anew",
    "Redis": "answers that were kept, limits, events of answers",
    "settings": "SECRET_KEY, passwords and keys of providers: keep .env and its secrets elsewhere",
}


def kept_models() -> list[Model]:
    """The tables that are kept, tables between two others included."""
    found = apps.get_models(include_auto_created=True)
    return [model for model in found if _has_table(model) and model._meta.label not in LEFT_OUT]


def columns_of(model: Model) -> list[str]:
    return [field.attname for field in model._meta.local_concrete_fields]


def rows_of(model: Model) -> Iterator[list[Any]]:
    """All rows that are kept, read a few at a time. Call it in a transaction."""
    # The plain manager: those of some models say more of a row than stands in it.
    rows = model._base_manager.order_by("pk")
    if issubclass(model, DBTaskResult):
        rows = rows.filter(finished_at=None)
    for row in rows.values_list(*columns_of(model)).iterator(chunk_size=ROWS_AT_ONCE):
        yield list(row)


def as_line(row: Sequence[Any]) -> bytes:
    return json.dumps(row, default=_plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def load(model: Model, columns: Sequence[str], lines: Iterable[bytes]) -> int:
    """Insert rows as they were; returns how many there were.

    Raises ValueError where a line is no row or a value is none of its column, and the database's errors.
    """
    by_name = {field.attname: field for field in model._meta.local_concrete_fields}
    fields = [by_name[name] for name in columns]
    count, waiting = 0, iter(lines)
    while some := list(islice(waiting, ROWS_AT_ONCE)):
        rows = [_row(fields, line, count + number) for number, line in enumerate(some, start=1)]
        if issubclass(model, AuditEvent):
            # What happened since the backup stays told, who was erased above all.
            model._base_manager.bulk_create([model(**row) for row in rows], ignore_conflicts=True)
        else:
            _insert(model, rows, count)
        count += len(rows)
    return count


def empty() -> None:
    """Take all rows out of all tables but the audit log's, and the vectors that are made of them.

    Call it in a transaction; a trigger that keeps rows of the ledger does not see it.
    """
    found = [model for model in apps.get_models(include_auto_created=True) if _has_table(model)]
    names = [model._meta.db_table for model in found if not issubclass(model, AuditEvent)]
    names += [
        name for name in connection.introspection.table_names() if name.startswith(pgvector_index.PREFIX)
    ]
    quoted = [connection.ops.quote_name(name) for name in names]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(quoted)} RESTART IDENTITY")
            return
        for name in quoted:
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - names of our own tables


def let_ids_go_on() -> None:
    """The next row of a table gets an id behind those that were loaded. SQLite sees to that by itself."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), kept_models()):
            cursor.execute(statement)


def _has_table(model: Model) -> bool:
    return model._meta.managed and not model._meta.proxy


def _row(fields: Sequence[Any], line: bytes, number: int) -> dict[str, Any]:
    """Raises ValueError, which quotes no value: it may be a private text."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, list) or len(row) != len(fields):
        raise ValueError(f"its line {number} is no row of this table")
    values = {}
    for field, value in zip(fields, row, strict=True):
        try:
            values[field.attname] = field.to_python(value)
        except (*NOT_TAKEN, ValidationError) as error:
            raise ValueError(f"in its line {number}, {field.attname} is no such value") from error
    return values


def _insert(model: Model, rows: Sequence[dict[str, Any]], before: int) -> None:
    try:
        bulk.insert(model, rows)
    except NOT_TAKEN as error:
        lines = f"lines {before + 1} to {before + len(rows)}"
        raise ValueError(f"in its {lines} is a value that its column does not take") from error


def _plain(value: object) -> str:
    match value:
        case datetime() | date():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case bytes() | memoryview():
            return base64.b64encode(value).decode()
    raise TypeError(f"a {type(value).__name__} is in no column that is known here")
