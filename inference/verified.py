"""Answers that a curator has verified: told before any cache and any model is asked.

A question finds one where all turns up to it are the same, after Unicode, case and space folding. So a
follow-up is never taken for a first question of the same words, nor one with a system prompt of its own for
one without. Which ones there are, every process has in memory with the models (`inference.catalogue`): a
question that none answers costs no query.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from embeddings.models import Collection
from inference.ask import Ask
from inference.cache.answers import CachedAnswer
from inference.cache.folding import composed
from inference.cache.levels import CachedHit
from inference.models import Message, VerifiedAnswer, Version
from inference.models.verified import Place
from inference.preface import turns_of
from inference.providers.base import ChatMessage
from inference.thread import branch_to
from llmsite.core.metrics import CACHE_REQUESTS

MOST_CHARACTERS = 100_000
"""Of all turns together. Nobody types more than that twice."""
_PIECE = re.compile(r"\s*\S+(?:\s+$)?")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_HITS = CACHE_REQUESTS.labels("verified", "hit")


def fold(text: str) -> str:
    """`text` in the form in which equal questions are the same: Unicode, case and spaces make no difference.

    Powers and fractions stay apart from plain digits, which the compatible form would make of them.
    """
    return " ".join(composed(composed(text).casefold()).split())


def digest_of(turns: Sequence[ChatMessage], collection: UUID | None = None) -> str | None:
    """What stands for all turns up to a question, and for the collection it was put to, where that counts.

    None where they are no plain words, end with no question, or are too long to be asked twice.
    """
    if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
        return None
    if any(turn.role == "tool" or turn.tool_calls for turn in turns):
        return None
    if sum(len(turn.content) for turn in turns) > MOST_CHARACTERS:
        return None
    folded: list[Any] = [[turn.role, fold(turn.content)] for turn in turns]
    text = _ENCODER.encode([str(collection or ""), folded])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# --- How a question finds its answer --------------------------------------------------------------


def find(ask: Ask, turns: Sequence[ChatMessage], known: Mapping[Place, UUID]) -> UUID | None:
    """The verified answer to `ask`, which ends `turns`: the person's own, the collection's, or everybody's.

    `known` is all there are. That the person may read the collection has been seen to.
    """
    if not known or ask.regenerate is not None or ask.shape.given():
        return None
    collection = ask.grounding.collection if ask.grounding else None
    digest = digest_of(turns)
    own = digest if collection is None else digest_of(turns, collection)
    if digest is None or own is None:
        return None
    places: list[Place] = [(own, ask.user.pk, None), (digest, None, collection), (digest, None, None)]
    return next((known[place] for place in places if place in known), None)


async def hit_of(pk: UUID) -> CachedHit | None:
    """The verified answer `pk` as one of the cache; None where it was taken back a moment ago."""
    text = await database_sync_to_async(_answer)(pk)
    if text is None:
        return None
    _HITS.inc()
    return CachedHit(_as_cached(text), "verified")


def _answer(pk: UUID) -> str | None:
    return VerifiedAnswer.objects.filter(pk=pk).values_list("answer", flat=True).first()


def _as_cached(text: str) -> CachedAnswer:
    """It comes word by word, as a model writes."""
    return CachedAnswer(
        key="",
        text=text,
        delta_lengths=tuple(len(piece) for piece in _PIECE.findall(text)),
        finish_reason="stop",
        input_tokens=0,
        output_tokens=0,
        created=time.time(),
    )


# --- How it gets there ----------------------------------------------------------------------------


@transaction.atomic
def verify(
    message: Message,
    answer: str,
    *,
    user: User | None = None,
    collection: Collection | None = None,
    source: UUID | None = None,
    by: User | None = None,
) -> VerifiedAnswer | None:
    """Let `answer`, which is not empty, be the answer to the question that `message` has answered.

    It is told to `user`, where that person asks again in the same place (the same collection, or none); to
    all who ask `collection`; or, without either, to everybody. What was verified for them before gives way.
    None where the question is none that could be asked again (`digest_of`).
    """
    turns, asked_of = _turns_before(message)
    digest = digest_of(turns, asked_of if user else None)
    if digest is None:
        return None
    _wait_for_others()
    values = {"question": turns[-1].content, "answer": answer, "source": source, "created_by": by}
    row, _ = VerifiedAnswer.objects.update_or_create(
        digest=digest, user=user, collection=collection, defaults={**values, "created_at": timezone.now()}
    )
    return row


def digest_for(message: Message, *, own: bool) -> str | None:
    """The digest of the question that `message` has answered; `own` where one person is told alone."""
    turns, asked_of = _turns_before(message)
    return digest_of(turns, asked_of if own else None)


@transaction.atomic
def unverify(source: UUID) -> int:
    """Remove what was verified because of the feedback `source`; returns how many that were."""
    rows = VerifiedAnswer.objects.filter(source=source)
    if not rows.exists():
        return 0
    _wait_for_others()
    return rows.delete()[0]


def _wait_for_others() -> None:
    """Count the change before it is made: who changes several then waits for nobody who waits for them."""
    Version.objects.bump(Version.VERIFIED)


def _turns_before(answer: Message) -> tuple[list[ChatMessage], UUID | None]:
    """The turns that led to `answer`, and the collection that was asked, as `find` is given them."""
    conversation = answer.conversation
    frames = list(conversation.messages.only("id", "parent_id"))
    rows = Message.objects.in_bulk([frame.pk for frame in branch_to(frames, answer.parent_id)])
    branch = [rows[frame.pk] for frame in branch_to(frames, answer.parent_id)]
    generation = getattr(answer, "generation", None)
    return [*turns_of(conversation.preface), *said_in(branch)], generation and generation.collection


def said_in(branch: Sequence[Message]) -> list[ChatMessage]:
    """The turns of a branch. An answer that failed before its first piece is empty, and teaches nothing."""
    return [ChatMessage(turn.role, turn.content) for turn in branch if turn.content]  # type: ignore[arg-type]
