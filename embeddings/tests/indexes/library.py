"""Documents that are ready to be searched, made row by row."""

from uuid import uuid4

import numpy as np

from embeddings.chunking import CHUNKER
from embeddings.indexes.rows import index_for
from embeddings.models import Chunk, Collection, Document, Page, Status, Step
from embeddings.tests.fakes import DIMENSIONS, vector_of

EMBEDDER = "scripted"


def index_of(collection, *, embedder=EMBEDDER, chunker=CHUNKER):
    return index_for(collection, embedder=embedder, dimensions=DIMENSIONS, chunker=chunker)


def make_collection(owner, name="Books", **values):
    return Collection.objects.create(owner=owner, name=name, **values)


def add_document(collection, *texts, name=None, language="en", index=None, embedded=True, is_paged=False):
    """A document that is searched; each text is a page and a chunk of its own."""
    document = Document.objects.create(collection=collection, name=name or f"{uuid4().hex}.txt")
    version = add_version(document, *texts, language=language, is_paged=is_paged)
    put_chunks(version, *texts, index=index or index_of(collection), embedded=embedded)
    commit(version)
    return document


def add_version(document, *texts, language="en", is_paged=False):
    version = document.versions.create(
        number=document.versions.count() + 1,
        sha256="0" * 64,
        size=1,
        media_type="text/plain",
        file="",
        step=Step.EMBEDDED,
        language=language,
        is_paged=is_paged,
        title="",
    )
    Page.objects.bulk_create(
        Page(version=version, number=at, text=text) for at, text in enumerate(texts, start=1)
    )
    return version


def put_chunks(version, *texts, index, embedded=True):
    Chunk.objects.bulk_create(
        Chunk(
            index=index,
            version=version,
            ordinal=at,
            page=at + 1,
            start=0,
            end=len(text),
            text=text,
            vector=half(vector_of(text)) if embedded else None,
        )
        for at, text in enumerate(texts)
    )


def commit(version):
    document = version.document
    version.step, version.status = Step.COMMITTED, Status.READY
    version.save()
    old, document.current = document.current, version
    document.save()
    if old:
        old.delete()
    Collection.objects.filter(pk=document.collection_id).bump()


def half(vector):
    return np.asarray(vector, dtype="<f2").tobytes()
