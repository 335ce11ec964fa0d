"""What this app keeps of a person: erased with their account, and part of what they can download."""

from typing import Any

from django.db.models import Prefetch

from accounts.erasure import erase_admin_log
from accounts.models import User
from embeddings.deletion import delete_all_of
from embeddings.models import Collection, Document, DocumentVersion
from llmsite.core.errors import DiskFull, EmbedderUnavailable, ErasureUnfinished
from llmsite.core.worker import TryLater

COLLECTION = ("id", "name", "visibility", "team_id", "created_at")
DOCUMENT = ("id", "name", "title", "created_at")
VERSION = (
    "id",
    "number",
    "sha256",
    "size",
    "media_type",
    "status",
    "error",
    "pages_total",
    "characters",
    "language",
    "created_at",
    "ready_at",
)


def erase(user: User) -> dict[str, int]:
    """Delete their collections with all documents, files and what is indexed. Raises ErasureUnfinished."""
    collections = Collection.objects.filter(owner=user)
    documents = Document.objects.filter(collection__owner=user)
    counts = {
        "admin_log": erase_admin_log(collections) + erase_admin_log(documents),
        "documents": documents.count(),
        "document_files": DocumentVersion.objects.filter(document__in=documents).count(),
    }
    try:
        return counts | {"collections": delete_all_of(user)}
    except (EmbedderUnavailable, DiskFull, OSError, TryLater) as error:
        raise ErasureUnfinished(detail=repr(error)) from error


def export(user: User) -> list[dict[str, Any]]:
    """Their collections and what is in them. The files themselves are downloaded one by one."""
    documents = Document.objects.filter(deleting_at=None).order_by("created_at", "id")
    documents = documents.prefetch_related(Prefetch("versions", DocumentVersion.objects.order_by("number")))
    collections = Collection.objects.filter(owner=user, deleting_at=None).order_by("created_at", "id")
    return [
        {name: getattr(collection, name) for name in COLLECTION}
        | {"documents": [_document(document) for document in collection.documents.all()]}
        for collection in collections.prefetch_related(Prefetch("documents", documents))
    ]


def _document(document: Document) -> dict[str, Any]:
    versions = [{name: getattr(version, name) for name in VERSION} for version in document.versions.all()]
    return {name: getattr(document, name) for name in DOCUMENT} | {"versions": versions}
