"""Vectors in PostgreSQL, by its extension pgvector: one table for each number of dimensions.

Each search names its SearchIndex inside the query. The vectors of a small one are all compared; a large one
is searched in the graph (HNSW) of all vectors, which goes on until it has enough of the wanted ones.
"""
# ruff: noqa: S608 - the names in the statements are this module's own; all values are parameters.

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from django.db import DatabaseError, connection, transaction

from embeddings.indexes.vectors import HalfVectors, Ids, Match, Vector, ranked

log = structlog.get_logger(__name__)

EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"
PREFIX = "embeddings_vectors_"
EXACT = 20_000
"""Vectors of one index that are all compared."""
WIDTH = 100
"""Of the list of candidates while the graph is searched (hnsw.ef_search)."""
MOST_SCANNED = 100_000


class PgVectorIndex:
    """See VectorIndex. It is kept by the database; whoever asks may be in any process."""

    def __init__(self, index: int, dimensions: int, *, exact: int = EXACT) -> None:
        self._index = index
        self._exact = exact
        self._table = _table(dimensions)
        self._size: int | None = None

    def __len__(self) -> int:
        if self._size is None:
            count = f"SELECT count(*) FROM {self._table} WHERE index_id = %s"
            self._size = int(_rows(count, [self._index])[0][0])
        return self._size

    def held(self) -> Mapping[UUID, int]:
        first = f"SELECT version_id, chunk_id FROM {self._table} WHERE index_id = %s AND is_first"
        return dict(_rows(first, [self._index]))

    def add(self, version: UUID, chunks: Ids, vectors: HalfVectors) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            self._delete(cursor, [version])
            copy = f"COPY {self._table} (index_id, version_id, chunk_id, is_first, vector) FROM STDIN"
            with cursor.copy(copy) as rows:
                for at, (chunk, vector) in enumerate(zip(chunks.tolist(), vectors, strict=True)):
                    rows.write_row((self._index, version, chunk, at == 0, _text(vector)))
        self._size = None

    def remove(self, versions: Collection[UUID]) -> None:
        with connection.cursor() as cursor:
            self._delete(cursor, versions)
        self._size = None

    def search(self, vector: Vector, most: int) -> Sequence[Match]:
        distance = "vector <#> %s::halfvec"
        # An expression that the graph does not know makes PostgreSQL compare all vectors of the index.
        order = f"({distance}) + 0" if len(self) <= self._exact else distance
        nearest = (
            f"SELECT chunk_id, -({distance}) FROM {self._table} WHERE index_id = %s ORDER BY {order} LIMIT %s"
        )
        text = _text(vector)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"SET LOCAL hnsw.ef_search = {max(WIDTH, most)};"
                " SET LOCAL hnsw.iterative_scan = strict_order;"
                f" SET LOCAL hnsw.max_scan_tuples = {MOST_SCANNED}"
            )
            cursor.execute(nearest, [text, self._index, text, most])
            found = cursor.fetchall()
        return ranked([chunk for chunk, _ in found], [score for _, score in found])

    def save(self) -> None:
        """It is kept already."""

    def close(self) -> None:
        """Nothing is open."""

    def destroy(self) -> None:
        _rows(f"DELETE FROM {self._table} WHERE index_id = %s RETURNING 1", [self._index])
        self._size = None

    def _delete(self, cursor: Any, versions: Collection[UUID]) -> None:
        cursor.execute(
            f"DELETE FROM {self._table} WHERE index_id = %s AND version_id = ANY(%s)",
            [self._index, list(versions)],
        )


@cache
def has_pgvector() -> bool:
    """Whether the site's database keeps vectors; the extension is switched on where that is allowed."""
    if connection.vendor != "postgresql":
        return False
    try:
        with transaction.atomic():
            _rows(EXTENSION, returns=False)
    except DatabaseError as error:
        log.info("no_pgvector", reason=str(error).strip())
        return False
    return True


def sweep() -> None:
    """Drop the vectors of indexes that are gone."""
    kept = (
        "SELECT i.id FROM embeddings_searchindex i JOIN embeddings_collection c ON c.id = i.collection_id"
        " WHERE c.deleting_at IS NULL"
    )
    for name in connection.introspection.table_names():
        if name.startswith(PREFIX):
            # One row of each version is read, and no more.
            gone = f"SELECT DISTINCT index_id FROM {name} WHERE is_first AND index_id NOT IN ({kept})"
            for (index,) in _rows(gone):
                _rows(f"DELETE FROM {name} WHERE index_id = %s", [index], returns=False)


def _table(dimensions: int) -> str:
    """The name of the table of such vectors, made now where it is not there."""
    name = f"{PREFIX}{int(dimensions)}"
    if name not in connection.introspection.table_names():
        with transaction.atomic(), connection.cursor() as cursor:
            # Two processes may come here at once; the lock ends with the transaction.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [name])
            cursor.execute(EXTENSION)
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (index_id bigint NOT NULL, version_id uuid NOT NULL,"
                " chunk_id bigint NOT NULL, is_first boolean NOT NULL,"
                f" vector halfvec({int(dimensions)}) NOT NULL, PRIMARY KEY (index_id, version_id, chunk_id))"
            )
            cursor.execute(
                f"CREATE INDEX IF NOT EXISTS {name}_graph ON {name} USING hnsw (vector halfvec_ip_ops)"
            )
            cursor.execute(f"CREATE INDEX IF NOT EXISTS {name}_held ON {name} (index_id) WHERE is_first")
    return name


def _rows(statement: str, values: Sequence[Any] = (), *, returns: bool = True) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if returns else []


def _text(vector: Any) -> str:
    return f"[{','.join(map(str, vector.tolist()))}]"
