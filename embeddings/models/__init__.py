"""Collections, their documents in versions, and the chunks of those that are searched."""

from embeddings.models.chunks import Chunk, IndexStatus, SearchIndex
from embeddings.models.collections import Collection, Visibility, access_collection
from embeddings.models.documents import (
    Document,
    DocumentVersion,
    Page,
    Status,
    Step,
    access_document,
)

__all__ = [
    "Chunk",
    "Collection",
    "Document",
    "DocumentVersion",
    "IndexStatus",
    "Page",
    "SearchIndex",
    "Status",
    "Step",
    "Visibility",
    "access_collection",
    "access_document",
]
