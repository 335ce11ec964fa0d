"""What the database says that the indexes should hold."""

from collections.abc import Collection as Group
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from embeddings.models import Chunk, Collection, DocumentVersion, IndexStatus, SearchIndex, Status, Step

READ_AT_ONCE = 2000
WITH_VECTORS = (Step.EMBEDDED, Step.INDEXED, Step.COMMITTED)


@dataclass(frozen=True, slots=True)
class Target:
    """A SearchIndex as its host knows it, and the version of its collection at that time."""

    index: int
    collection: UUID
    version: int
    embedder: str
    dimensions: int


class Row(NamedTuple):
    """A chunk, as it is put into the indexes."""

    chunk: int
    text: str
    vector: bytes


def targets(collections: Group[UUID] | None = None, *, active_only: bool = False) -> list[Target]:
    """The indexes of these collections, or of all; also those that are being built."""
    found = SearchIndex.objects.filter(collection__deleting_at=None).order_by("pk")
    if collections is not None:
        found = found.filter(collection__in=collections)
    if active_only:
        found = found.filter(status=IndexStatus.ACTIVE)
    fields = ("pk", "collection_id", "collection__version", "embedder", "dimensions")
    return [Target(*values) for values in found.values_list(*fields)]


def versions_of(index: int) -> dict[UUID, int]:
    """The versions that can be searched there, each with the id of its first chunk."""
    first = Chunk.objects.filter(
        index=index,
        ordinal=0,
        vector__isnull=False,
        version__step__in=WITH_VECTORS,
        version__document__deleting_at=None,
    ).exclude(version__status=Status.FAILED)
    return dict(first.values_list("version_id", "pk"))


def languages_of(versions: Group[UUID]) -> Mapping[UUID, str]:
    """The language of each version."""
    return dict(DocumentVersion.objects.filter(pk__in=versions).values_list("pk", "language"))


def chunks_of(index: int, version: UUID) -> Iterator[Row]:
    """All chunks of a version, in their order. The words of a heading count for the chunk below it."""
    fields = ("pk", "heading", "text", "vector")
    found = Chunk.objects.filter(index=index, version=version, vector__isnull=False).order_by("ordinal")
    for chunk, heading, text, vector in found.values_list(*fields).iterator(chunk_size=READ_AT_ONCE):
        yield Row(chunk, f"{heading}\n{text}", bytes(vector))


def vectors_of(chunks: Sequence[int], *, indexes: Group[int]) -> dict[int, bytes]:
    """The vectors of those of these chunks that are in one of `indexes`."""
    if not chunks:
        return {}
    found = Chunk.objects.filter(pk__in=chunks, index__in=indexes, vector__isnull=False)
    return {chunk: bytes(vector or b"") for chunk, vector in found.values_list("pk", "vector")}


def index_for(collection: Collection, *, embedder: str, dimensions: int, chunker: str) -> SearchIndex:
    """The index that takes chunks cut by `chunker` for `embedder`, made now where there is none.

    The first one of a collection is active at once; another one is built beside it (rebuild.py).
    """
    with transaction.atomic():
        Collection.objects.select_for_update().get(pk=collection.pk)
        is_first = not SearchIndex.objects.filter(collection=collection, status=IndexStatus.ACTIVE).exists()
        status = IndexStatus.ACTIVE if is_first else IndexStatus.BUILDING
        index, _ = SearchIndex.objects.get_or_create(
            collection=collection,
            embedder=embedder,
            chunker=chunker,
            defaults={"dimensions": dimensions, "status": status},
        )
        return index
