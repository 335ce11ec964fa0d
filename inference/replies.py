"""A whole answer as programs get it: its body and its headers."""

from collections.abc import Sequence
from typing import Any, TypeVar

from inference.events import Finished, Started
from inference.grounding.grounds import Grounds
from inference.grounding.rows import grounds_of
from inference.models import Generation

T = TypeVar("T", Started, Finished)


def deciding(choices: Sequence[T]) -> T:
    """The choice that tells how all were answered: where only some come from the cache, one that does not."""
    return next((one for one in choices if not one.cache), choices[0])


def llmsite_headers(choices: Sequence[Started], *, cost: str | None = None) -> dict[str, str]:
    """What a program can learn of how it was answered; of a call that is not free the end knows the cost."""
    started = deciding(choices)
    headers = {
        # Header values are Latin-1; an alias may be anything.
        "x-llmsite-model": started.model.encode("ascii", "backslashreplace").decode(),
        "x-llmsite-cache": f"hit-{started.cache}" if started.cache else "miss",
        "x-llmsite-fallbacks": str(started.fallbacks),
    }
    if started.similarity is not None:
        headers["x-llmsite-similarity"] = f"{started.similarity:.3f}"
    if cost is not None or started.cache:
        headers["x-llmsite-cost"] = cost or "0"
    return headers


def told_grounds(grounds: Grounds) -> dict[str, Any]:
    """What an answer stands on, as every door tells it."""
    return {
        "answered": grounds.answered,
        "extract": grounds.extract,
        "confidence": grounds.confidence,
        "sources": grounds.told_sources(),
    }


def reply_json(generation: Generation) -> dict[str, Any]:
    """The body of a whole answer, from its row, which was read `to_tell` it."""
    grounds = grounds_of(generation)
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
        "sources": grounds.told_sources() if grounds else [],
        "message": str(generation.message_id),
        "conversation": str(generation.message.conversation_id),
    }
