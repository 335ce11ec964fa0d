"""Addresses of embeddings, below `/api/`."""

from django.urls import path

from embeddings import api

api_root = [
    path("embed", api.embed_texts),
]
