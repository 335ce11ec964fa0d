"""A whole answer as programs get it: its body and its headers."""

from typing import Any, TypeVar

from django.http.response import HttpResponseBase

from inference.events import Started
from inference.models import Generation

Response = TypeVar("Response", bound=HttpResponseBase)


def with_answer_headers(response: Response, started: Started) -> Response:
    """What every door of programs says of an answer in its headers."""
    response["X-Llmsite-Cache"] = f"hit-{started.cache}" if started.cache else "miss"
    response["X-Llmsite-Model"] = started.model
    response["X-Llmsite-Fallbacks"] = str(started.fallbacks)
    return response


def reply_json(generation: Generation) -> dict[str, Any]:
    """The body of a whole answer, from its row, which was read together with its message."""
    return {
        "id": str(generation.pk),
        "text": generation.message.content,
        "model": generation.model_alias,
        "provider": generation.provider,
        "cache": generation.cache or None,
        "usage": generation.usage,
        "cost": generation.cost,
        "latency_ms": generation.latency_ms,
        "time_to_first_token_ms": generation.time_to_first_token_ms,
        "finish_reason": generation.finish_reason,
        "dropped_parameters": generation.dropped_parameters,
        "context_trimmed": generation.context_trimmed,
        "sources": [],
        "message": str(generation.message_id),
        "conversation": str(generation.message.conversation_id),
    }
