"""Level 3: answers to questions that were asked in other words. The index is in the model process.

What the index finds near passes the check of words here (`word_gate.py`). A model process that is away, still
loads or is slow means a miss, never an error, and is then left alone for a second.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from accounts.limits.shared_redis import Outage
from inference.cache.reading import MOST_CHARACTERS
from inference.cache.word_gate import depends_on_the_moment, depends_on_the_person, same_question
from llmsite.core import http

SECONDS = 0.3
"""The longest that a question waits for the index."""
MOST_BYTES = 8 << 20

outage = Outage("semantic_index", until_then="questions in other words are asked anew")


@dataclass(frozen=True, slots=True)
class SemanticHit:
    """What was kept for `question`, which asks the same; `similarity` is the cosine."""

    value: str
    similarity: float
    question: str


async def find(partition: str, question: str) -> SemanticHit | None:
    """What is kept in `partition` for a question that asks the same."""
    if not _may_be_compared(question):
        return None
    wanted = {"partition": partition, "text": question, "threshold": settings.SEMANTIC_CACHE_THRESHOLD}
    answer = await _ask("POST", "/semantic/find", wanted)
    try:
        matches = [_hit(match) for match in (answer or {}).get("matches", ())]
    except (LookupError, TypeError, ValueError):
        return None
    return next((match for match in matches if same_question(question, match.question)), None)


async def keep(partition: str, question: str, value: str, ttl: float) -> None:
    """Keep `value` for `ttl` seconds, for questions that ask the same."""
    if _may_be_compared(question) and ttl > 0:
        await _ask(
            "POST",
            "/semantic/keep",
            {"partition": partition, "text": question, "value": value, "ttl": ttl},
        )


async def clear() -> None:
    """Forget everything."""
    if settings.SEMANTIC_CACHE:
        await _ask("POST", "/semantic/forget", {})


async def forget(prefix: str) -> None:
    """Forget the partitions whose names begin with `prefix`."""
    if settings.SEMANTIC_CACHE and prefix:
        await _ask("POST", "/semantic/forget", {"partition_prefix": prefix})


async def counts() -> int | None:
    """How many questions are kept; None where the index cannot be asked."""
    if not settings.SEMANTIC_CACHE:
        return 0
    answer = await _ask("GET", "/semantic", None)
    entries = answer.get("entries") if answer else None
    return entries if isinstance(entries, int) else None


def _may_be_compared(question: str) -> bool:
    return (
        settings.SEMANTIC_CACHE
        and 0 < len(question) <= MOST_CHARACTERS
        and not depends_on_the_moment(question)
        and not depends_on_the_person(question)
    )


def _hit(match: dict[str, Any]) -> SemanticHit:
    return SemanticHit(str(match["value"]), float(match["similarity"]), str(match["text"]))


async def _ask(method: str, path: str, payload: Any) -> dict[str, Any] | None:
    """The answer of the index; None where there is none in time."""
    if not outage.may_try():
        return None
    try:
        async with (
            asyncio.timeout(SECONDS),
            http.send(
                method, settings.MODEL_URL + path, payload=payload, connect_timeout=SECONDS
            ) as response,
        ):
            answer = await response.read_json(limit=MOST_BYTES)
            if response.status != 200 or not isinstance(answer, dict):
                raise http.BadResponse(f"status {response.status}")
    except (OSError, http.BadResponse) as error:  # A time-out is an OSError too.
        outage.failed(error)
        return None
    outage.worked()
    return answer
