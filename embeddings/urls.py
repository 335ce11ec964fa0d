"""Addresses of embeddings: its pages, and what lies below `/api/`."""

from django.urls import path

from embeddings import api, collection_api, document_api, search_api
from embeddings.pages import changes, collections, documents, reader

pages = [
    path("documents/", documents.documents, name="documents"),
    path("documents/upload/", changes.upload, name="document-upload"),
    path("documents/<uuid:pk>/", reader.document, name="document"),
    path("documents/<uuid:pk>/delete/", changes.delete, name="document-delete"),
    path("documents/<uuid:pk>/retry/", changes.retry, name="document-retry"),
    path("documents/collections/", collections.add, name="collection-add"),
    path("documents/collections/<uuid:pk>/", collections.change, name="collection-change"),
    path("documents/collections/<uuid:pk>/delete/", collections.delete, name="collection-delete"),
]

api_root = [
    path("embed", api.embed_texts),
    path("search", search_api.search_documents),
    path("collections", collection_api.CollectionListView.as_view()),
    path("collections/<uuid:pk>", collection_api.CollectionView.as_view()),
    path("documents", document_api.documents),
    path("documents/<uuid:pk>", document_api.DocumentView.as_view()),
    path("documents/<uuid:pk>/file", document_api.DocumentFileView.as_view(), name="document-file"),
    path("documents/<uuid:pk>/retry", document_api.DocumentRetryView.as_view()),
    path("documents/<uuid:pk>/pages", document_api.DocumentPagesView.as_view()),
]
