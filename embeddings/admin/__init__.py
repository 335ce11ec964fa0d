"""The admin's view of documents: where they are and how far, never what they say or are called."""

from embeddings.admin.collections import CollectionAdmin, SearchIndexAdmin
from embeddings.admin.documents import DocumentAdmin, DocumentVersionAdmin
from embeddings.admin.texts import ChunkAdmin, PageAdmin

__all__ = [
    "ChunkAdmin",
    "CollectionAdmin",
    "DocumentAdmin",
    "DocumentVersionAdmin",
    "PageAdmin",
    "SearchIndexAdmin",
]
