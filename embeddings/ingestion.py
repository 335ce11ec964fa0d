"""From a stored file to something that is searched, in steps.

    stored → parsed (pages) → chunked (chunks) → embedded (vectors) → indexed → committed (searched)

Each step is committed together with its rows, so a worker that is killed leaves a version whose next step any
worker can do. Until the last one readers see the version before; then its place is taken in one transaction.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import structlog
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone
from django_tasks import TaskResult, TaskResultStatus, task

from embeddings import client, storage
from embeddings.chunking import CHUNKER, chunk
from embeddings.deletion import clear_up
from embeddings.failures import CANCELLED, INTERNAL
from embeddings.indexes.client import sync
from embeddings.indexes.rows import index_for
from embeddings.language import detect
from embeddings.models import (
    Chunk,
    Collection,
    Document,
    DocumentVersion,
    Page,
    SearchIndex,
    Status,
    Step,
)
from embeddings.models.documents import RUNNING
from embeddings.parsing import ParsingFailed, Reason, parse
from llmsite.core import bulk
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import DiskFull, EmbedderFailed, EmbedderUnavailable
from llmsite.core.worker import TaskLost, TryLater, TurnOver, checkpoint, is_last_try

log = structlog.get_logger("llmsite.ingestion")

CHUNKS_AT_ONCE = 64
CHUNKS_A_TURN = 256
"""So many are embedded while somebody else's document waits: some seconds' work."""
RETRY_SECONDS = 5.0

# How far a version is, in percent, when a step is done; embedding counts from one to the next.
PARSED, CHUNKED, EMBEDDED, INDEXED = 10, 15, 95, 98


@task()
def ingest_version(pk: str) -> None:
    """Do all steps of a version that are not done yet."""
    ingest(UUID(pk))


def ingest(pk: UUID) -> None:
    """As far as it comes. What cannot be read is marked as failed.

    What may pass is raised, to be tried again: TryLater, TurnOver, ParsingFailed, DiskFull, EmbedderFailed;
    and TaskLost.
    """
    work = _take(pk)
    if work is None:
        return
    try:
        with telling_when_full():
            _do_steps(work)
    except EmbedderFailed:
        raise
    except EmbedderUnavailable as error:
        raise TryLater(error.retry_after or RETRY_SECONDS, "embedder_unavailable") from error
    except (ParsingFailed, DiskFull) as error:
        code = error.code if isinstance(error, ParsingFailed) else Reason.DISK_FULL.value
        is_final = isinstance(error, ParsingFailed) and not error.retryable
        if not is_final and not is_last_try():
            raise
        log.warning("document_failed", version=str(pk), code=code, detail=getattr(error, "detail", ""))
        work.fail(code)


def note_failed_task(*, task_result: TaskResult, **_signal: object) -> None:
    """A receiver of `task_finished`: the version of a task that failed for another reason has failed too."""
    if task_result.status != TaskResultStatus.FAILED or task_result.task.func is not ingest_version.func:
        return
    how = task_result.errors[0].exception_class_path.rpartition(".")[2]
    codes = {"WorkerDied": Reason.CRASHED.value, "CalledOff": CANCELLED}
    _mark_failed(UUID(task_result.args[0]), codes.get(how, INTERNAL))


@transaction.atomic
def _mark_failed(pk: UUID, code: str) -> None:
    versions = DocumentVersion.objects.running().filter(pk=pk)
    if versions.update(status=Status.FAILED, error=code, claim=None):
        _forget_text(pk)


def _forget_text(version: UUID) -> None:
    """Of a version that has failed: nothing of it will be searched or shown."""
    Page.objects.filter(version=version).delete()
    Chunk.objects.filter(version=version).delete()


@dataclass(frozen=True, slots=True)
class _Work:
    """A version, and the claim under which this worker changes it."""

    version: DocumentVersion
    claim: UUID

    @property
    def collection(self) -> UUID:
        return self.version.document.collection_id

    def save(self, **values: Any) -> None:
        """Change the version's row. Raises TaskLost where another worker has it, or nobody wants it now."""
        own = DocumentVersion.objects.running().filter(
            pk=self.version.pk,
            claim=self.claim,
            document__deleting_at=None,
            document__collection__deleting_at=None,
        )
        if not own.update(**values):
            raise TaskLost
        for name, value in values.items():
            setattr(self.version, name, value)

    def fail(self, code: str) -> None:
        with transaction.atomic():
            self.save(status=Status.FAILED, error=code, claim=None)
            _forget_text(self.version.pk)


def _take(pk: UUID) -> _Work | None:
    """Claim a version; from then on whoever had it changes nothing. None where there is nothing to do."""
    claim = uuid4()
    if not DocumentVersion.objects.filter(pk=pk, status__in=RUNNING).update(claim=claim):
        return None
    versions = DocumentVersion.objects.select_related("document")
    return _Work(versions.get(pk=pk), claim)


def _do_steps(work: _Work) -> None:
    order = list(Step)
    for step, do in _STEPS.items():
        if order.index(Step(work.version.step)) < order.index(step):
            checkpoint()
            do(work)


# --- The steps --------------------------------------------------------------------------------------


def _parse(work: _Work) -> None:
    work.save(status=Status.PARSING)
    parsed = parse(storage.path_of(work.version.file), work.version.media_type)
    text = "\n".join(page.text for page in parsed.pages)
    rows = [
        {"version_id": work.version.pk, "number": page.number, "text": page.text, "headings": page.headings}
        for page in parsed.pages
    ]
    with transaction.atomic():
        work.save(
            step=Step.PARSED,
            status=Status.EMBEDDING,
            progress=PARSED,
            is_paged=parsed.is_paged,
            title=parsed.title[:255],
            pages_total=len(rows),
            characters=len(text),
            language=detect(text),
        )
        bulk.insert(Page, rows)


def _chunk(work: _Work) -> None:
    index = _index_of(work.collection)
    pieces = chunk(_pages_of(work))
    if not pieces:
        raise ParsingFailed(Reason.EMPTY)
    rows = [
        {
            "ordinal": ordinal,
            "page": piece.page,
            "start": piece.start,
            "end": piece.end,
            "heading": piece.heading[:300],
            "text": piece.text,
        }
        for ordinal, piece in enumerate(pieces)
    ]
    with transaction.atomic():
        work.save(step=Step.CHUNKED, progress=CHUNKED)
        bulk.insert(Chunk, rows, common={"index_id": index.pk, "version_id": work.version.pk})
    if len(rows) > CHUNKS_A_TURN:
        _let_others_go_first(work)


def _pages_of(work: _Work) -> Iterator[Page]:
    for page in work.version.pages.order_by("number"):
        checkpoint()
        yield page


def _embed(work: _Work) -> None:
    total = work.version.chunks.count()
    left = work.version.chunks.filter(vector=None).select_related("index").order_by("ordinal")
    turn = 0
    while batch := list(left[:CHUNKS_AT_ONCE]):
        checkpoint()
        if turn >= CHUNKS_A_TURN:
            _let_others_go_first(work)
            turn = 0
        found = _encode([passage(one) for one in batch])
        if found.model != batch[0].index.embedder:
            _chunk_again(work)
            return
        for one, vector in zip(batch, found.vectors, strict=True):
            one.vector = struct.pack(f"<{len(vector)}e", *vector)
        done = total - left.count() + len(batch)
        with transaction.atomic():
            work.save(progress=CHUNKED + (EMBEDDED - CHUNKED) * done // total)
            Chunk.objects.bulk_update(batch, ["vector"])
        turn += len(batch)
    work.save(step=Step.EMBEDDED, progress=EMBEDDED)


def _let_others_go_first(work: _Work) -> None:
    """A long document keeps nobody waiting but its owner, whose other ones stay in their order."""
    own = Collection.objects.filter(pk=work.collection).values("owner")
    # Without a claim: no worker has begun it, or it made way itself.
    waiting = DocumentVersion.objects.running().filter(
        claim=None, document__deleting_at=None, document__collection__deleting_at=None
    )
    if waiting.exclude(document__collection__owner__in=own).exists():
        work.save(claim=None)
        raise TurnOver


def _chunk_again(work: _Work) -> None:
    """Another encoder has come meanwhile: vectors of two do not go together."""
    with transaction.atomic():
        work.save(step=Step.PARSED, progress=PARSED)
        work.version.chunks.all().delete()
    _chunk(work)
    _embed(work)


def _index(work: _Work) -> None:
    sync(work.collection)
    work.save(step=Step.INDEXED, progress=INDEXED)


def _commit(work: _Work) -> None:
    """Readers see this version from here on, and those before are gone, also one that is still on its way."""
    index = _index_of(work.collection)
    while not _show(work, index):
        # Another index took the place of the one that it was put into, which was not searched again.
        _chunk_again(work)
        _index(work)
        index = _index_of(work.collection)


@transaction.atomic
def _show(work: _Work, index: SearchIndex) -> bool:
    """False, and nothing done, where the version has no chunks in `index`."""
    version = work.version
    # Whoever changes the index of a collection changes this row too, and waits.
    Collection.objects.select_for_update().get(pk=work.collection)
    if not version.chunks.filter(index=index).exists():
        return False
    document = Document.objects.select_for_update().get(pk=version.document_id)
    work.save(step=Step.COMMITTED, status=Status.READY, progress=100, ready_at=timezone.now(), claim=None)
    Document.objects.filter(pk=document.pk).update(current=version, title=version.title)
    Collection.objects.filter(pk=document.collection_id).bump()
    older = document.versions.filter(number__lt=version.number)
    if gone := list(older.values_list("pk", "file")):
        files, versions = [file for _, file in gone], [str(pk) for pk, _ in gone]
        clear_up.enqueue(str(document.collection_id), files, str(document.pk), versions)
        older.delete()
    return True


_STEPS: dict[Step, Callable[[_Work], None]] = {
    Step.PARSED: _parse,
    Step.CHUNKED: _chunk,
    Step.EMBEDDED: _embed,
    Step.INDEXED: _index,
    Step.COMMITTED: _commit,
}


# --- What they use ----------------------------------------------------------------------------------


def passage(chunk: Chunk) -> str:
    """What the encoder reads of a chunk."""
    return chunk.text


def _encode(texts: Sequence[str]) -> client.Embeddings:
    return async_to_sync(client.embed)(texts, kind="passage")


def _index_of(collection: UUID) -> SearchIndex:
    """Where new chunks of a collection belong: the index of the encoder that runs."""
    encoder = _encode(["."])
    return index_for(
        Collection.objects.get(pk=collection),
        embedder=encoder.model,
        dimensions=encoder.dimensions,
        chunker=CHUNKER,
    )
