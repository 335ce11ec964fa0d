"""Addresses of OpenAI's API, below `/v1/`; none ends in a slash, and none is led to another."""

from django.urls import path

from inference.openai_api.chat import chat_completions
from inference.openai_api.embeddings import create_embeddings
from inference.openai_api.models import get_model, list_models

v1 = [
    path("models", list_models),
    path("models/<path:name>", get_model),
    path("chat/completions", chat_completions),
    path("embeddings", create_embeddings),
]
