"""Many rows of one shape at once.

`bulk_create` makes an instance of each row and a statement as long as all of them, which takes several times as
long as the database does. Here the values that rows have in common are prepared once, and one short statement is
run for each row. It makes no instances, sends no signals, and does not ask for keys that the database gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections, models, router


def insert(
    model: type[models.Model], rows: Sequence[Mapping[str, Any]], *, common: Mapping[str, Any] | None = None
) -> None:
    """Insert `rows` into the table of `model`: values by attribute name, the same names in each.

    `common` are the values that all of them share. What neither names has its default, evaluated once. Raises
    the database's errors, IntegrityError among them.
    """
    if not rows:
        return
    connection = connections[router.db_for_write(model)]
    fields = [field for field in model._meta.local_concrete_fields if not _is_given_by_database(field, rows[0])]
    shared = {
        field.attname: field.get_db_prep_save(_shared_value(field, common or {}), connection)
        for field in fields
        if field.attname not in rows[0]
    }
    own = [field for field in fields if field.attname in rows[0]]
    columns = ", ".join(connection.ops.quote_name(field.column) for field in (*own, *fields_of(fields, shared)))
    tail = list(shared.values())
    values = [
        [*(field.get_db_prep_save(row[field.attname], connection) for field in own), *tail] for row in rows
    ]
    table = connection.ops.quote_name(model._meta.db_table)
    marks = ", ".join(["%s"] * len(fields))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608 - names of ours


def fields_of(fields: Sequence[Any], names: Mapping[str, Any]) -> list[Any]:
    return [field for field in fields if field.attname in names]


def _is_given_by_database(field: Any, row: Mapping[str, Any]) -> bool:
    return isinstance(field, models.AutoField) and field.attname not in row


def _shared_value(field: Any, common: Mapping[str, Any]) -> Any:
    return common[field.attname] if field.attname in common else field.get_default()
