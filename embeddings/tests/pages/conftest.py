"""A shelf of documents as ingestion leaves them, without its having run."""

from typing import Any

import pytest

from accounts.models import User
from embeddings.models import Collection, Document, DocumentVersion, Page, Status, Step


def make_document(
    collection: Collection,
    name: str = "foxes.pdf",
    *,
    pages: list[str] | None = None,
    is_paged: bool = True,
    status: str = Status.READY,
    **values: Any,
) -> Document:
    """A document with one version; one that is ready has the text of `pages`."""
    document = Document.objects.create(collection=collection, name=name, uploader=collection.owner)
    version = make_version(document, pages=pages, is_paged=is_paged, status=status, **values)
    if status == Status.READY:
        document.current = version
        document.save()
    return document


def make_version(
    document: Document, *, pages: list[str] | None = None, is_paged: bool = True, **values: Any
) -> DocumentVersion:
    texts = pages or ["The red fox lives in forests."]
    done = values.get("status") == Status.READY
    options = {
        "number": 1,
        "sha256": "0" * 64,
        "size": 2048,
        "media_type": "application/pdf",
        "file": "",
        "step": Step.COMMITTED if done else Step.STORED,
        "is_paged": is_paged,
        "pages_total": len(texts),
        "language": "en",
        **values,
    }
    version = document.versions.create(**options)
    for number, text in enumerate(texts, start=1):
        Page.objects.create(version=version, number=number, text=text)
    return version


@pytest.fixture
def shelf(alice: User) -> Collection:
    """Alice's, and hers alone."""
    return Collection.objects.create(owner=alice, name="Field notes")
