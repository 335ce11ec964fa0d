"""Taking in a file: is there room, is it there already, is it a new version of something? Then it waits."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Greatest
from django.utils.translation import gettext as _

from accounts.models import User
from embeddings import storage
from embeddings.deletion import clear_up
from embeddings.ingestion import ingest_version
from embeddings.models import Collection, Document, DocumentVersion, Status, Step, access_collection
from embeddings.uploads import check_upload, safe_path
from llmsite.core.errors import StorageUsedUp

MEGABYTE = 1_000_000
HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A document, and the version that a file has become; `is_new` is false where it was there already."""

    document: Document
    version: DocumentVersion
    is_new: bool
    task: UUID | None = None


def default_collection(user: User) -> Collection:
    """Where documents go that name no collection: private, and made when it is first needed."""
    name = _("My documents")
    own = Collection.objects.writable_by(user)
    collection = own.order_by("created_at", "id").filter(is_default=True).first()
    if collection is not None:
        return collection
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        found = own.filter(is_default=True).first()
        return found or Collection.objects.create(owner=user, name=_free_name(user, name), is_default=True)


def _free_name(user: User, name: str) -> str:
    taken = set(
        Collection.objects.writable_by(user).filter(name__startswith=name).values_list("name", flat=True)
    )
    candidates = [name, *(f"{name} {number}" for number in range(2, len(taken) + 2))]
    return next(candidate for candidate in candidates if candidate not in taken)


def require_room(user: User, size: int) -> None:
    """Raises StorageUsedUp where `size` more bytes would be more than `user` may keep."""
    limit = settings.STORAGE_QUOTA_MB * MEGABYTE
    if limit and used_bytes(user) + size > limit:
        raise StorageUsedUp(limit=settings.STORAGE_QUOTA_MB)


def used_bytes(user: User) -> int:
    """What their files take; where its text is longer than a file (which may be packed), the text."""
    versions = DocumentVersion.objects.filter(document__collection__owner=user)
    return versions.aggregate(total=Sum(Greatest("size", "characters")))["total"] or 0


def take_in(user: User, collection: UUID | str | None, path: Path, name: str, *, folder: str = "") -> TakenIn:
    """Make the file at `path` a document of a collection that `user` may change; the file is moved, or left.

    Another content of a name that is there, in the same `folder` (as in `reports/2024`), is a new version of
    that document. The same content again, also under a name that is not there yet, is the same document.
    Raises NotFound, and for a file that is not taken UnsupportedFile, TooLarge, StorageUsedUp or DiskFull.
    """
    place = access_collection(user, collection, to_change=True) if collection else None
    with path.open("rb") as file:
        media_type = check_upload(name, file.read(HEAD_BYTES), path)
    name = safe_path(folder, name)
    digest, size = _digest(path), path.stat().st_size
    place = place or default_collection(user)
    if known := _known(place, name, digest):
        return known
    stored = storage.keep(path)
    try:
        taken = _add(user, place, name, digest, size=size, media_type=media_type, file=stored)
    except BaseException:
        storage.remove([stored])
        raise
    if not taken.is_new:
        storage.remove([stored])
    return taken


@transaction.atomic
def _add(
    user: User, place: Collection, name: str, digest: str, *, size: int, media_type: str, file: str
) -> TakenIn:
    # One after the other: two uploads of one file at the same moment are one document.
    User.objects.select_for_update().get(pk=user.pk)
    place = access_collection(user, place.pk, to_change=True)
    require_room(user, size)
    if known := _known(place, name, digest):
        return known
    document, _created = Document.objects.get_or_create(
        collection=place, name=name, deleting_at=None, defaults={"uploader": user}
    )
    last = document.versions.aggregate(last=Max("number"))["last"] or 0
    version = document.versions.create(
        number=last + 1, sha256=digest, size=size, media_type=media_type, file=file
    )
    task = ingest_version.enqueue(str(version.pk))
    return TakenIn(document, version, is_new=True, task=UUID(task.id))


@transaction.atomic
def read_again(document: Document) -> DocumentVersion | None:
    """Have the newest version read from its beginning, where it has failed; None where there is none.

    One that has not failed stays as it is.
    """
    newest = document.versions.order_by("-number").first()
    if newest is None:
        return None
    failed = DocumentVersion.objects.filter(pk=newest.pk, status=Status.FAILED)
    if not failed.update(status=Status.QUEUED, step=Step.STORED, progress=0, error="", claim=None):
        return newest
    newest.pages.all().delete()
    newest.chunks.all().delete()
    ingest_version.enqueue(str(newest.pk))
    newest.refresh_from_db()
    return newest


def _known(place: Collection, name: str, digest: str) -> TakenIn | None:
    """What has this content already: the document of this name, or where none has it, another of `place`."""
    documents = Document.objects.filter(collection=place, deleting_at=None)
    named = documents.filter(name=name)
    is_named = named.exists()
    version = _with_content(named if is_named else documents, digest)
    if version is None:
        return None
    if is_named:
        _forget_failed_after(version)
    return TakenIn(version.document, version, is_new=False)


def _with_content(documents: QuerySet[Document], digest: str) -> DocumentVersion | None:
    """The first whose newest version has this content, and is searched or on its way there."""
    newest = DocumentVersion.objects.filter(document=OuterRef("document")).exclude(status=Status.FAILED)
    versions = DocumentVersion.objects.filter(
        document__in=documents, sha256=digest, pk=Subquery(newest.order_by("-number").values("pk")[:1])
    )
    return versions.select_related("document__collection").order_by("pk").first()


@transaction.atomic
def _forget_failed_after(version: DocumentVersion) -> None:
    """Whoever uploads a content again goes back to it: what failed after it is not wanted any more."""
    failed = DocumentVersion.objects.filter(
        document=version.document, number__gt=version.number, status=Status.FAILED
    )
    # Held, so that none of them begins to be read again meanwhile.
    if files := dict(failed.select_for_update().values_list("pk", "file")):
        DocumentVersion.objects.filter(pk__in=files).delete()
        clear_up.enqueue(str(version.document.collection_id), list(files.values()))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
