"""Addresses of Anthropic's API, below `/v1/`."""

from django.urls import path

from inference.anthropic_api.messages import count_tokens, create_message

v1 = [
    path("messages", create_message),
    path("messages/count_tokens", count_tokens),
]
