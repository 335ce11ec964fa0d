"""Many rows of one shape at once.

`bulk_create` makes an instance of each row and a statement as long as all of them, which takes several times
as long as the database does. Here values are prepared by the column, those that rows have in common once, and
one statement is run for every few rows. It makes no instances, sends no signals, and asks for no keys.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any
from uuid import UUID

from django.db import connections, models, router

ROWS_A_STATEMENT = 10
"""Each statement lets other threads run; all rows in one would be too long to be prepared only once."""

_PLAIN = {str, int, type(None)}
_AS_THEY_ARE = (models.CharField, models.TextField, models.IntegerField, models.ForeignKey)


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
    columns = _Columns(connection)
    tail = [field.get_db_prep_save(_value(field, common or {}), connection) for field in shared]
    prepared = zip(
        *(columns.prepared(field, [row[field.attname] for row in rows]) for field in own), strict=True
    )
    values = [[*row, *tail] for row in prepared]
    start = len(values) % ROWS_A_STATEMENT
    with connection.cursor() as cursor:
        for size, some in ((1, values[:start]), (ROWS_A_STATEMENT, values[start:])):
            if some:
                statement = _statement(model, [*own, *shared], connection.ops.quote_name, rows=size)
                cursor.executemany(statement, _joined(some, size))


def _value(field: Any, common: Mapping[str, Any]) -> Any:
    return common[field.attname] if field.attname in common else field.get_default()


class _Columns:
    """Values as the database takes them, without asking a field about those that stay as they are."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._known: dict[tuple[type, int], Any] = {}

    def prepared(self, field: Any, values: list[Any]) -> list[Any]:
        kinds = set(map(type, values))
        if isinstance(field, _AS_THEY_ARE) and kinds <= _PLAIN:
            return values
        if kinds == {UUID}:
            native = self._connection.features.has_native_uuid_field
            return values if native else [value.hex for value in values]
        return [self._asked(field, value) for value in values]

    def _asked(self, field: Any, value: Any) -> Any:
        # A moment or a list stands in several columns or rows. All values live as long as this, so an
        # object's id is its own.
        key = type(field), id(value)
        if key not in self._known:
            self._known[key] = field.get_db_prep_save(value, self._connection)
        return self._known[key]


def _joined(values: list[list[Any]], size: int) -> list[list[Any]]:
    """The values of `size` rows behind each other, for each statement."""
    return [list(chain.from_iterable(values[at : at + size])) for at in range(0, len(values), size)]


def _statement(model: type[models.Model], fields: Sequence[Any], quote: Any, *, rows: int) -> str:
    columns = ", ".join(quote(field.column) for field in fields)
    row = f"({', '.join(['%s'] * len(fields))})"
    # All names are those of our own tables.
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES {', '.join([row] * rows)}"  # noqa: S608
