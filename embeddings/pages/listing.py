"""What the page of documents shows: the collections somebody may read, and the documents of one of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Prefetch, Q, QuerySet
from django.utils.translation import get_language_info

from accounts.models import User
from embeddings.failures import may_pass, sentence
from embeddings.models import Collection, Document, DocumentVersion, Status, access_document
from embeddings.models.documents import RUNNING
from llmsite.core.errors import NotFound

SHOWN = 50
"""How many documents stand on one page."""


@dataclass(frozen=True, slots=True)
class Line:
    """One document as the list shows it: by its newest version, which may not be the one that is searched."""

    document: Document
    version: DocumentVersion | None

    @property
    def status(self) -> str:
        return self.version.status if self.version else Status.QUEUED

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING

    @property
    def keeps_former(self) -> bool:
        """Whether an older version is searched while the newest is not ready, or will never be."""
        return self.status != Status.READY and self.document.current_id is not None

    @property
    def language(self) -> str:
        return language_name(self.version.language) if self.version else ""

    @property
    def failure(self) -> str:
        """Why the newest version failed, and what to do; empty where it has not."""
        return sentence(self.version.error) if self.version else ""

    @property
    def may_be_tried_again(self) -> bool:
        return self.version is not None and may_pass(self.version.error)


def collections_of(user: User) -> tuple[list[Collection], list[Collection]]:
    """The collections of `user`, and those that others let them read; each with its number of `files`."""
    files = Count("documents", filter=Q(documents__deleting_at=None))
    rows = list(Collection.objects.visible_to(user).annotate(files=files).select_related("owner", "team"))
    return [row for row in rows if row.owner_id == user.pk], [row for row in rows if row.owner_id != user.pk]


def lines_of(collection: Collection, user: User, before: UUID | None) -> tuple[list[Line], UUID | None]:
    """A page of the documents of `collection`, newest first, and after which one the next page begins."""
    rows: QuerySet[Document] = Document.objects.filter(collection=collection, deleting_at=None).order_by(
        "-created_at", "id"
    )
    if before:
        rows = _older_than(rows, before, user)
    versions = Prefetch("versions", DocumentVersion.objects.order_by("number"), to_attr="all_versions")
    page = list(rows.prefetch_related(versions)[: SHOWN + 1])
    return _lines(page[:SHOWN]), page[SHOWN - 1].pk if len(page) > SHOWN else None


def _older_than(rows: QuerySet[Document], pk: UUID, user: User) -> QuerySet[Document]:
    try:
        last = access_document(user, pk)
    except NotFound:
        return rows
    same_moment = Q(created_at=last.created_at, pk__gt=last.pk)
    return rows.filter(Q(created_at__lt=last.created_at) | same_moment)


def _lines(documents: Iterable[Document]) -> list[Line]:
    return [Line(row, row.all_versions[-1] if row.all_versions else None) for row in documents]  # type: ignore[attr-defined]


def line_of(document: Document) -> Line:
    return Line(document, document.versions.order_by("-number").first())


def language_name(code: str) -> str:
    """A language in the reader's own; its code where Django does not know its name."""
    if not code:
        return ""
    try:
        return str(get_language_info(code)["name_translated"])
    except KeyError:
        return code
