"""A question, and the passages of documents that say most about it.

Rights are inside: only collections that the user may read are asked for, an index knows nothing of others,
and no text leaves the database but through `visible_to(user)`.
"""

import time
from collections.abc import Collection as Group
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from accounts.models import User
from embeddings.indexes import client, rows
from embeddings.indexes.fusion import Scored, fuse, weighing_of
from embeddings.indexes.hits import Hit, Mode
from embeddings.indexes.rows import Target
from embeddings.models import Chunk, Collection
from llmsite.core import tracing
from llmsite.core.errors import EmbedderUnavailable, NotFound
from llmsite.core.metrics import RETRIEVAL_SECONDS

MOST_PASSAGES = 50
MOST_CHARACTERS = 4000
"""Of a question."""

_NOTHING = client.Candidates([], by_vector=True, is_complete=True)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found: `text` is that of the page from `start` to `end`, in characters.

    All scores are from 0 to 1. `vector_score` is the cosine with the question; `lexical_score` says how much
    of what the question's words say is said here. They are None where nobody compared them.
    """

    chunk: int
    document: UUID
    version: UUID
    collection: UUID
    title: str
    page: int | None
    start: int
    end: int
    heading: str
    text: str
    score: float
    vector_score: float | None
    lexical_score: float | None
    language: str


@dataclass(frozen=True, slots=True)
class Found:
    """The best passages, the best first. `mode` is lexical where some vectors could not be compared."""

    passages: list[Passage]
    took_ms: float
    mode: Mode
    is_complete: bool = True
    """False while documents that just came or went are still being taken in."""


async def search(
    user: User,
    query: str,
    *,
    collections: Group[UUID] | None = None,
    top_k: int = 5,
    mode: Mode = "hybrid",
) -> Found:
    """The passages that say most about `query`, in these collections or in all that `user` may read.

    Raises NotFound for a collection that is missing or out of reach, EmbedderUnavailable where the indexes,
    or with mode vector the vectors, cannot be asked.
    """
    with tracing.retrieval(top_k):
        return await _search(user, query, collections, top_k, mode)


async def _search(user: User, query: str, collections: Group[UUID] | None, top_k: int, mode: Mode) -> Found:
    began = time.perf_counter()
    with RETRIEVAL_SECONDS.labels("rights").time():
        targets = await sync_to_async(_targets)(user, collections)
    with RETRIEVAL_SECONDS.labels("index").time():
        found = await client.find(targets, query, mode) if targets else _NOTHING
    if mode == "vector" and not found.by_vector:
        raise EmbedderUnavailable(detail="some vectors are of another encoder")
    with RETRIEVAL_SECONDS.labels("texts").time():
        passages = await sync_to_async(_passages)(user, targets, found.hits)
    used: Mode = mode if found.by_vector else "lexical"
    took_ms = (time.perf_counter() - began) * 1000
    return Found(passages[:top_k], took_ms, used, found.is_complete)


def _targets(user: User, wanted: Group[UUID] | None) -> list[Target]:
    """The indexes to be asked. Raises NotFound."""
    visible = Collection.objects.visible_to(user)
    if wanted is not None:
        visible = visible.filter(pk__in=set(wanted))
    found = set(visible.values_list("pk", flat=True))
    if wanted is not None and found != set(wanted):
        raise NotFound
    return rows.targets(found, active_only=True)


def _passages(user: User, targets: list[Target], hits: list[Hit]) -> list[Passage]:
    """The chunks of the hits that `user` may read now, ranked."""
    found = Chunk.objects.visible_to(user).filter(pk__in=[hit.chunk for hit in hits])
    by_chunk = {values[0]: values for values in found.values_list(*_FIELDS)}
    scores = {hit.chunk: hit for hit in hits if hit.chunk in by_chunk}
    candidates = [
        Scored(hit.chunk, by_chunk[hit.chunk][7], hit.vector, hit.lexical) for hit in scores.values()
    ]
    embedder = targets[0].embedder if targets else ""
    return [
        _passage(by_chunk[chunk], score, scores[chunk])
        for chunk, score in fuse(candidates, weighing_of(embedder))
    ]


_FIELDS = (
    "pk",
    "version__document_id",
    "version_id",
    "version__document__collection_id",
    "version__title",
    "version__document__name",
    "version__is_paged",
    "version__language",
    "page",
    "start",
    "end",
    "heading",
    "text",
)


def _passage(values: tuple[Any, ...], score: float, hit: Hit) -> Passage:
    chunk, document, version, collection, title, name, is_paged, language, page, *rest = values
    start, end, heading, text = rest
    return Passage(
        chunk=chunk,
        document=document,
        version=version,
        collection=collection,
        title=title or name,
        page=page if is_paged else None,
        start=start,
        end=end,
        heading=heading,
        text=text,
        score=score,
        vector_score=hit.vector,
        lexical_score=hit.lexical,
        language=language,
    )
