"""What this app keeps of a person: erased with their account, and part of what they can download."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from redis.exceptions import RedisError

from accounts.erasure import erase_admin_log
from accounts.models import User
from inference.cache import semantic
from inference.cache.levels import answer_cache
from inference.grounding.rows import grounds_of
from inference.mirror import KEEP_SECONDS, event_mirror
from inference.models import Conversation, Generation, Message
from inference.question import cache_tag
from llmsite.core.errors import ErasureUnfinished

WAIT_SECONDS = 5.0
"""How long an erasure waits for running answers. A process that still writes one notices the missing row."""

GENERATION = (
    "id",
    "status",
    "door",
    "request_id",
    "model_alias",
    "provider",
    "requested_model",
    "adapter",
    "attempts",
    "cache",
    "tool_calls",
    "parameters",
    "dropped_parameters",
    "context_trimmed",
    "labels",
    "collection",
    "grounding",
    "confidence",
    "finish_reason",
    "error_code",
    "input_tokens",
    "output_tokens",
    "usage_estimated",
    "cost_micro",
    "latency_ms",
    "time_to_first_token_ms",
    "created_at",
    "ended_at",
)


def erase(user: User) -> dict[str, int]:
    """Stop their answers, delete their conversations, empty the cache of them. Raises ErasureUnfinished."""
    generations = Generation.objects.filter(user=user)
    _stop(generations)
    cached = _forget_cached(cache_tag(user))
    # Before the rows, without which nobody would know the names of the streams.
    try:
        streams = event_mirror.forget(_lately_mirrored(generations))
    except RedisError as error:
        raise ErasureUnfinished(detail=str(error)) from error
    return {"event_streams": streams, "cached_answers": cached} | _erase_rows(user, generations)


def _forget_cached(tag: str) -> int:
    """Delete the answers that were kept for one person. Other processes' memories lose them by themselves."""
    forgotten = answer_cache.memory.forget(tag)
    try:
        forgotten += answer_cache.shared.forget_in_thread(tag)
    except RedisError as error:
        raise ErasureUnfinished(detail=str(error)) from error
    # Where the model process is away, so is what it kept in its memory.
    async_to_sync(semantic.forget)(tag)
    return forgotten


def _stop(generations: QuerySet[Generation]) -> None:
    running = Generation.objects.running() & generations
    for generation in running.all():
        generation.request_stop()
    deadline = time.monotonic() + WAIT_SECONDS
    while running.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def _lately_mirrored(generations: QuerySet[Generation]) -> list[UUID]:
    """The answers that may still have events in the mirror, with time to spare."""
    kept_since = timezone.now() - timedelta(seconds=2 * KEEP_SECONDS)
    return list(generations.exclude(ended_at__lt=kept_since).values_list("pk", flat=True))


@transaction.atomic
def _erase_rows(user: User, generations: QuerySet[Generation]) -> dict[str, int]:
    conversations = Conversation.objects.filter(owner=user)
    return {
        "admin_log": erase_admin_log(conversations) + erase_admin_log(generations),
        "answers": generations.delete()[0],
        "messages": Message.objects.filter(conversation__owner=user).delete()[0],
        "conversations": conversations.delete()[0],
    }


def export(user: User) -> list[dict[str, Any]]:
    """Their conversations with all messages, each answer with how it was made."""
    messages = Message.objects.select_related("generation").prefetch_related("generation__sources")
    messages = messages.order_by("created_at", "id")
    conversations = Conversation.objects.filter(owner=user).order_by("created_at", "id")
    return [
        {
            "id": conversation.pk,
            "title": conversation.title,
            "model": conversation.model,
            "preface": conversation.preface,
            "is_listed": conversation.is_listed,
            "created_at": conversation.created_at,
            "updated_at": conversation.updated_at,
            "messages": [_message(message) for message in conversation.messages.all()],
        }
        for conversation in conversations.prefetch_related(Prefetch("messages", messages))
    ]


def _message(message: Message) -> dict[str, Any]:
    generation = getattr(message, "generation", None)
    return {
        "id": message.pk,
        "parent": message.parent_id,
        "role": message.role,
        "content": message.content,
        "created_at": message.created_at,
        "generation": generation and _generation(generation),
    }


def _generation(generation: Generation) -> dict[str, Any]:
    grounds = grounds_of(generation)
    sources = grounds.told_sources() if grounds else []
    return {**{name: getattr(generation, name) for name in GENERATION}, "sources": sources}
