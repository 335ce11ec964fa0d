"""Many rows of one shape at once.

`bulk_create` makes an instance of each row and a statement as long as all of them, which takes several times
as long as the database does. Here the values that rows have in common are prepared once, and one short
statement is run for each row. It makes no instances, sends no signals, and asks for no keys.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
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
    fields = model._meta.local_concrete_fields
    own = [field for field in fields if field.attname in rows[0]]
    shared = [field for field in fields if field not in own and not isinstance(field, models.AutoField)]
    tail = [field.get_db_prep_save(_value(field, common or {}), connection) for field in shared]
    moments: dict[datetime, Any] = {}

    def prepared(field: Any, value: Any) -> Any:
        # The columns of a row often share one moment, and preparing it takes longer than all else.
        if not isinstance(value, datetime):
            return field.get_db_prep_save(value, connection)
        if value not in moments:
            moments[value] = field.get_db_prep_save(value, connection)
        return moments[value]

    values = [[*(prepared(field, row[field.attname]) for field in own), *tail] for row in rows]
    with connection.cursor() as cursor:
        cursor.executemany(_statement(model, [*own, *shared], connection.ops.quote_name), values)


def _value(field: Any, common: Mapping[str, Any]) -> Any:
    return common[field.attname] if field.attname in common else field.get_default()


def _statement(model: type[models.Model], fields: Sequence[Any], quote: Callable[[str], str]) -> str:
    columns = ", ".join(quote(field.column) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    # All names are those of our own tables.
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({marks})"  # noqa: S608
