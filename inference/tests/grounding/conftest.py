"""A library without an index: what a search finds in it is said by the test."""

from collections.abc import Collection as Group
from typing import Any

import pytest

from accounts.models import User
from embeddings.indexes.hits import Mode
from embeddings.models import Collection, Document, Status
from embeddings.search import Found, Passage
from inference.grounding import stage

FOX = "The red fox lives in the wood. It hunts mice at night. Its den has three entrances."


class Library:
    """Documents with one passage each. `searches` are the questions that were looked for, and where."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.searches: list[tuple[str, list[Any]]] = []
        self.is_complete = True
        self.mode: Mode = "hybrid"
        self.only_for = ""
        """Words without which nothing is found."""

    def add(
        self, collection: Collection, text: str = FOX, *, title: str = "Foxes", **values: Any
    ) -> Document:
        """A document of which every search there finds `text`, with a vector that says "this is it"."""
        document = Document.objects.create(collection=collection, name=f"{title[:200]}.txt")
        version = document.versions.create(number=1, size=len(text), status=Status.READY)
        Collection.objects.filter(pk=collection.pk).bump()
        given = {"page": None, "score": 0.9, "vector_score": 0.8, "lexical_score": 0.7} | values
        passage = Passage(
            chunk=len(self.passages) + 1,
            document=document.pk,
            version=version.pk,
            collection=collection.pk,
            title=title,
            start=10,
            end=10 + len(text),
            heading="",
            text=text,
            language="en",
            **given,
        )
        self.passages.append(passage)
        return document

    async def search(
        self, user: User, query: str, *, collections: Group[Any] | None = None, top_k: int = 5
    ) -> Found:
        self.searches.append((query, list(collections or ())))
        found = [passage for passage in self.passages if passage.collection in set(collections or ())]
        found = found if self.only_for in query else []
        return Found(found[:top_k], 1.0, self.mode, self.is_complete)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(stage, "search", library.search)
    return library


@pytest.fixture
def foxes(alice: User, library: Library) -> Collection:
    """Alice's own collection, with one document about foxes."""
    collection = Collection.objects.create(owner=alice, name="Foxes")
    library.add(collection)
    collection.refresh_from_db()
    return collection
