"""Documents cut and embedded anew, beside what is searched, which then changes in one transaction.

It is done from the stored pages. The rows of the new SearchIndex are the state: a version is in it whole or
not at all, and whoever begins again goes on with those it lacks. Documents that come meanwhile are put
there by their ingestion, which asks the same encoder.

A worker looks now and then whether there is anything to do; `manage.py rebuild_index` does it at once.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog
from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django_tasks import task
from django_tasks_db.models import DBTaskResult

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from embeddings import client
from embeddings.chunking import CHUNKER, chunk
from embeddings.indexes import client as indexes
from embeddings.indexes.rows import index_for
from embeddings.ingestion import passage
from embeddings.models import Chunk, Collection, DocumentVersion, IndexStatus, SearchIndex
from embeddings.models.documents import RUNNING
from llmsite.core.errors import EmbedderFailed, EmbedderUnavailable
from llmsite.core.worker import TryLater, checkpoint

log = structlog.get_logger(__name__)

TEXTS_AT_ONCE = 64
DELETED_AT_ONCE = 5000

IDLE = -50
"""The priority of this work: whatever else there is to do goes first, between two versions."""
RETRY_SECONDS = 30.0

Progress = Callable[[int, int], object]
"""Told how many versions are done, and how many there are to do."""


@task(priority=IDLE)
def rebuild_outdated() -> None:
    """Bring all collections to the encoder that runs, one after the other."""
    with _waiting_for_the_encoder():
        encoder = async_to_sync(client.embed)(["."])
        for collection in outdated(encoder.model):
            rebuild(collection, progress=lambda _done, _total: checkpoint())


@task(priority=IDLE)
def index_again(pk: str) -> None:
    """Bring one collection to the encoder that runs, and its index to what the rows say."""
    collection = Collection.objects.filter(pk=pk, deleting_at=None).first()
    if collection is None:
        return
    with _waiting_for_the_encoder():
        rebuild(collection, progress=lambda _done, _total: checkpoint())
        indexes.sync(collection.pk)


@transaction.atomic
def ask_to_index_again(collection: Collection, *, actor: User) -> bool:
    """Have a worker do so; False for a collection that is being deleted."""
    if collection.deleting_at is not None:
        return False
    pk = str(collection.pk)
    record(AuditKind.COLLECTION_REINDEXED, subject=collection.owner, actor=actor, collection=pk)
    index_again.enqueue(pk)
    return True


@contextmanager
def _waiting_for_the_encoder() -> Iterator[None]:
    try:
        yield
    except EmbedderFailed:
        raise
    except EmbedderUnavailable as error:
        raise TryLater(error.retry_after or RETRY_SECONDS, "embedder_unavailable") from error


def ask_for_rebuild() -> None:
    """Have a worker look, unless one is about to."""
    coming = DBTaskResult.objects.filter(task_path=rebuild_outdated.module_path, finished_at=None)
    if not coming.exists():
        rebuild_outdated.enqueue()


def outdated(embedder: str) -> QuerySet[Collection]:
    """The collections that have an index of another encoder than `embedder`, or of another chunker."""
    of_now = Q(embedder=embedder, chunker=CHUNKER, status=IndexStatus.ACTIVE)
    others = SearchIndex.objects.filter(~of_now, collection=OuterRef("pk"))
    return Collection.objects.filter(Exists(others), deleting_at=None).order_by("pk")


def rebuild(collection: Collection, *, progress: Progress = lambda _done, _total: None) -> bool:
    """Bring a collection to the encoder that runs and to the chunker of now; whether that was anything to do.

    Raises EmbedderUnavailable, also where another encoder has come meanwhile, and EmbedderFailed; called
    again, it goes on where it was.
    """
    encoder = async_to_sync(client.embed)(["."])
    index = index_for(collection, embedder=encoder.model, dimensions=encoder.dimensions, chunker=CHUNKER)
    is_due = index.status != IndexStatus.ACTIVE
    while is_due:
        _fill(index, progress)
        # So that the first search after the change finds its index ready.
        indexes.sync(collection.pk)
        is_due = not swap(index)
    is_old = _drop_others(index)
    if is_old:
        indexes.sync(collection.pk)
    return is_old


def lacking(index: SearchIndex) -> QuerySet[DocumentVersion]:
    """The versions that are shown, and of which `index` has nothing yet."""
    there = Chunk.objects.filter(index=index, version=OuterRef("pk"))
    shown = DocumentVersion.objects.current().filter(document__collection=index.collection_id)
    return shown.filter(~Exists(there)).order_by("pk")


@transaction.atomic
def swap(index: SearchIndex) -> bool:
    """Search in `index` from now on, unless it still lacks a version."""
    # Whoever shows or hides a version changes this row too, and waits.
    Collection.objects.select_for_update().get(pk=index.collection_id)
    if lacking(index).exists():
        return False
    others = SearchIndex.objects.filter(collection=index.collection_id, status=IndexStatus.ACTIVE)
    others.exclude(pk=index.pk).update(status=IndexStatus.BUILDING)
    SearchIndex.objects.filter(pk=index.pk).update(status=IndexStatus.ACTIVE)
    Collection.objects.filter(pk=index.collection_id).bump()
    log.info("index_swapped", collection=str(index.collection_id), embedder=index.embedder)
    return True


def _fill(index: SearchIndex, progress: Progress) -> None:
    todo = list(lacking(index).values_list("pk", flat=True))
    for done, pk in enumerate(todo):
        progress(done, len(todo))
        _put(index, pk)
    progress(len(todo), len(todo))


def _put(index: SearchIndex, pk: UUID) -> None:
    """All chunks of one version. Does nothing where it is gone, or somebody else was faster."""
    version = DocumentVersion.objects.filter(pk=pk).first()
    if version is None:
        return
    chunks = [
        Chunk(
            index=index,
            version=version,
            ordinal=ordinal,
            page=piece.page,
            start=piece.start,
            end=piece.end,
            heading=piece.heading[:300],
            text=piece.text,
        )
        for ordinal, piece in enumerate(chunk(list(version.pages.order_by("number"))))
    ]
    for start in range(0, len(chunks), TEXTS_AT_ONCE):
        _embed(chunks[start : start + TEXTS_AT_ONCE], index.embedder)
    try:
        with transaction.atomic():
            Chunk.objects.bulk_create(chunks, batch_size=500)
    except IntegrityError as error:
        log.info("version_not_rebuilt", version=str(pk), reason=str(error))


def _embed(chunks: Sequence[Chunk], embedder: str) -> None:
    found = async_to_sync(client.embed)([passage(one) for one in chunks], kind="passage")
    if found.model != embedder:
        # Vectors of two do not go together. Whoever begins again does so with the new one.
        raise EmbedderUnavailable(detail=f"{found.model} answers in place of {embedder}")
    for one, vector in zip(chunks, found.vectors, strict=True):
        one.vector = struct.pack(f"<{len(vector)}e", *vector)


def _drop_others(index: SearchIndex) -> bool:
    """Remove the indexes that are not searched any more; whether there were any.

    What a running ingestion has there stays: it notices that the encoder is another one, and goes on anew.
    """
    others = SearchIndex.objects.filter(collection=index.collection_id).exclude(pk=index.pk)
    found = list(others)
    for other in found:
        idle = Chunk.objects.filter(index=other).exclude(version__status__in=RUNNING)
        while some := list(idle.values_list("pk", flat=True)[:DELETED_AT_ONCE]):
            Chunk.objects.filter(pk__in=some).delete()
        if not other.chunks.exists():
            other.delete()
    return bool(found)
