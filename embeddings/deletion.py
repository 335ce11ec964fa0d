"""Deleting documents and collections: out of sight at once, then out of every store, by a task.

A row with `deleting_at` stays until nothing is left of it in the other stores, so what could not be removed
yet is known. The stores are the files, the rows, the indexes, and what an upper app keeps (`register`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_tasks import task

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from embeddings import storage
from embeddings.indexes.client import sync
from embeddings.models import Collection, Document, DocumentVersion, SearchIndex
from llmsite.core.errors import DiskFull, EmbedderFailed, EmbedderUnavailable, ErasureUnfinished
from llmsite.core.worker import TryLater, checkpoint

log = structlog.get_logger(__name__)

URGENT = 50
"""The priority of tasks that somebody was told are done soon; ingestion makes way for them."""
DOCUMENTS_AT_ONCE = 100
RETRY_SECONDS = 5.0
FAILED_RETRY_SECONDS = 60.0
"""After a store that has answered that it failed."""


class Forgetter(Protocol):
    """Raises ErasureUnfinished or TryLater where a store is away; then it is called again."""

    def __call__(self, ids: list[UUID], versions: list[UUID] | None = None, /) -> object: ...


_forgetters: list[Forgetter] = []


def register(forgetter: Forgetter) -> None:
    """Let an upper app remove what it keeps of the documents with these ids; it may be called again.

    With `versions` it is what it keeps of these versions of them: the documents have others by now.
    """
    _forgetters.append(forgetter)


@transaction.atomic
def delete_document(document: Document, *, actor: User | None) -> None:
    """From the end of this transaction on nobody sees it; a task removes its traces.

    Without an `actor` its time has come.
    """
    # Whoever shows a version locks the collection first, too: in two orders they would wait for each other.
    Collection.objects.select_for_update().filter(pk=document.collection_id).first()
    marked = Document.objects.filter(pk=document.pk, deleting_at=None).update(deleting_at=timezone.now())
    if not marked:
        return
    Collection.objects.filter(pk=document.collection_id).bump()
    record(AuditKind.DOCUMENT_DELETED, subject=actor, actor=actor, document=str(document.pk))
    finish_document.enqueue(str(document.pk))


@transaction.atomic
def delete_collection(collection: Collection, *, actor: User) -> None:
    """Likewise, with all its documents."""
    if not _mark(Collection.objects.filter(pk=collection.pk)):
        return
    record(AuditKind.COLLECTION_DELETED, subject=actor, actor=actor, collection=str(collection.pk))
    finish_collection.enqueue(str(collection.pk))


def delete_all_of(user: User) -> int:
    """Remove all collections of `user` from every store, now; returns how many there were.

    Raises EmbedderUnavailable where the indexes cannot be asked; then it has to be called again.
    """
    owned = Collection.objects.filter(owner=user)
    _mark(owned)
    ids = list(owned.values_list("pk", flat=True))
    for pk in ids:
        _finish_collection(pk)
    return len(ids)


@task(priority=URGENT)
def finish_document(pk: str) -> None:
    """Remove what is left of a document that is being deleted."""
    document = Document.objects.filter(pk=pk).exclude(deleting_at=None).first()
    if document is None:
        return
    with _waiting_for_stores():
        _empty([document.pk])
        sync(document.collection_id)
    document.delete()


@task(priority=URGENT)
def finish_collection(pk: str) -> None:
    """Remove what is left of a collection that is being deleted."""
    with _waiting_for_stores():
        _finish_collection(UUID(pk))


@task(priority=URGENT)
def clear_up(
    collection: str, files: list[str], document: str | None = None, versions: Sequence[str] = ()
) -> None:
    """Versions of a document are gone: remove their files, and let indexes and upper apps forget them."""
    with _waiting_for_stores():
        if document is not None:
            _forget([UUID(document)], list(map(UUID, versions)))
        storage.remove(files)
        sync(UUID(collection))


@contextmanager
def _waiting_for_stores() -> Iterator[None]:
    """A store that is away is waited for, however long: what is left in it stays known meanwhile."""
    try:
        yield
    except (EmbedderFailed, DiskFull) as error:
        # Somebody has to look. It is not given up: nothing else would remove what is left.
        reason = "disk_full" if isinstance(error, DiskFull) else "embedder_failed"
        log.error("deletion_waits", reason=reason, detail=error.data.get("detail", ""))
        raise TryLater(FAILED_RETRY_SECONDS, reason) from error
    except EmbedderUnavailable as error:
        raise TryLater(RETRY_SECONDS, "embedder_unavailable") from error
    except ErasureUnfinished as error:
        raise TryLater(RETRY_SECONDS, "store_unavailable") from error


def _mark(collections: QuerySet[Collection]) -> int:
    return collections.filter(deleting_at=None).update(deleting_at=timezone.now())


def _finish_collection(pk: UUID) -> None:
    collections = Collection.objects.filter(pk=pk).exclude(deleting_at=None)
    if not collections.exists():
        return
    while ids := list(
        Document.objects.filter(collection=pk).values_list("pk", flat=True)[:DOCUMENTS_AT_ONCE]
    ):
        _empty(ids)
        Document.objects.filter(pk__in=ids).delete()
        checkpoint()
    # Without rows of their own, its indexes are dropped whole.
    SearchIndex.objects.filter(collection=pk).delete()
    sync(pk)
    collections.delete()


def _empty(documents: Iterable[UUID]) -> None:
    """Remove the files, the rows below these documents, and what upper apps keep of them."""
    ids = list(documents)
    _forget(ids)
    versions = DocumentVersion.objects.filter(document__in=ids)
    # The files first: without a row nobody would know their names.
    storage.remove(versions.values_list("file", flat=True))
    versions.delete()


def _forget(documents: list[UUID], versions: list[UUID] | None = None) -> None:
    for forget in _forgetters:
        forget(documents, versions)
