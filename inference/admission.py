"""The way in: the rows of a question and its answer, and what is set aside for it.

From here on what the user wrote is kept, whatever happens to the answer.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from channels.db import database_sync_to_async
from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from accounts.ledger import reserve
from inference.cache.levels import CachedHit
from inference.context import estimated_prompt_tokens, most_prompt_tokens
from inference.grounding.forgetting import instead_of_extract
from inference.grounding.rows import gone_versions, source_values, values_of
from inference.idempotency import claim
from inference.models import (
    TITLE_LENGTH,
    AnswerSource,
    ChatModelConfig,
    Conversation,
    Generation,
    Message,
    Role,
)
from inference.preface import preface_of
from inference.question import Question, refuse_while_draining
from llmsite.core.conflicts import retried
from llmsite.core.errors import NotFound

DOCUMENTS = "documents"
"""Stands for a model and its provider where the documents answer by themselves, or say nothing."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One admitted question and its rows. `hit` is the answer where the cache had it."""

    question: Question
    generation: Generation
    conversation: Conversation
    user_message: Message | None
    hit: CachedHit | None = None

    @property
    def model(self) -> ChatModelConfig:
        """The model that was asked; `generation` names the one that answers."""
        return self.question.model


async def admit(question: Question, *, hit: CachedHit | None = None) -> Turn:
    """Store the question and reserve what its answer may cost; one from the cache costs nothing.

    Raises NotFound where its conversation is gone, AlreadyAsked where its idempotency key was claimed
    meanwhile, BudgetExhausted and ServerRestarting.
    """
    refuse_while_draining()
    return await database_sync_to_async(retried)(partial(_store, question, hit))


def new_generation(question: Question, **values: Any) -> Generation:
    """The row of an answer, before its message is known."""
    ask = question.ask
    return Generation(
        user=ask.user,
        api_key=ask.api_key,
        door=ask.door,
        request_id=ask.request_id,
        parameters=question.parameters,
        dropped_parameters=list(question.dropped_parameters),
        context_trimmed=question.context_trimmed,
        labels=dict(ask.labels),
        collection=ask.grounding.collection if ask.grounding else None,
        **_who_answers(question),
        **values_of(question.grounds),
        **values,
    )


def _who_answers(question: Question) -> dict[str, Any]:
    """Who answers: the model that is asked, or the documents in its place."""
    model = question.model
    if question.written:
        return {"model_alias": DOCUMENTS, "provider": DOCUMENTS, "requested_model": model.alias}
    return {"model_alias": model.alias, "provider": model.provider, "adapter": model.adapter}


def _cache_key(question: Question, hit: CachedHit | None) -> str:
    """Where the answer comes from, or where it will be kept; empty for one that is not."""
    if hit is not None:
        return hit.answer.key
    return question.lookup.key if question.lookup else ""


def new_conversation(question: Question, now: datetime, **values: Any) -> Conversation:
    """The row of a conversation that this question begins."""
    ask = question.ask
    return Conversation(
        owner=ask.user,
        model=question.model.alias,
        title=title_of(ask.prompt),
        preface=preface_of(ask),
        is_listed=ask.listed,
        updated_at=now,
        **values,
    )


def title_of(prompt: str) -> str:
    """The first line of the first question, shortened at a word."""
    words = " ".join(prompt.split("\n", 1)[0].split())
    if len(words) <= TITLE_LENGTH:
        return words
    return words[: TITLE_LENGTH - 1].rsplit(" ", 1)[0] + "…"


@transaction.atomic
def _store(question: Question, hit: CachedHit | None) -> Turn:
    ask, parent = question.ask, question.place.parent
    now = timezone.now()
    conversation = _touched_conversation(question, now)
    user_message = None
    if ask.regenerate is None:
        parent = user_message = Message.objects.create(
            conversation=conversation, parent=parent, role=Role.USER, content=ask.prompt, created_at=now
        )
    generation = new_generation(question, cache_key=_cache_key(question, hit))
    if hit is not None and not hit.is_of_a_model:
        generation.adapter = ""
    generation.message = Message.objects.create(conversation=conversation, parent=parent, role=Role.ASSISTANT)
    generation.save(force_insert=True)
    question = _store_sources(question, generation)
    claim(ask, generation)
    _reserve(question, generation, is_free=hit is not None or bool(question.written))
    if hit is not None:
        generation.cache = hit.level
    return Turn(question, generation, conversation, user_message, hit)


def _store_sources(question: Question, generation: Generation) -> Question:
    """The question as it is to be answered: one that quotes what is gone by now has another answer."""
    grounds = question.grounds
    if grounds is None:
        return question
    # One may have been deleted since it was found, and whoever did that has looked for its traces already.
    gone = gone_versions(grounds.sources)
    rows = source_values(grounds, gone)
    AnswerSource.objects.bulk_create([AnswerSource(generation=generation, **row) for row in rows])
    prefetch_related_objects([generation], "sources")
    if gone and grounds.extract:
        return replace(question, written=[instead_of_extract(question.ask.prompt)])
    return question


def _reserve(question: Question, generation: Generation, *, is_free: bool) -> None:
    ask, model, request = question.ask, question.model, question.request
    reserve(
        generation.pk,
        payer=ask.user,
        api_key=ask.api_key,
        model=model.alias,
        provider=model.provider,
        input_price=model.input_price,
        output_price=model.output_price,
        input_tokens=0 if is_free else estimated_prompt_tokens(request),
        input_tokens_at_most=0 if is_free else most_prompt_tokens(request),
        output_tokens_at_most=0 if is_free else request.max_tokens,
    )


def _touched_conversation(question: Question, now: datetime) -> Conversation:
    """The conversation, new or as it is by now: it may have been renamed or deleted meanwhile."""
    place, ask = question.place, question.ask
    if place.conversation is None:
        conversation = new_conversation(question, now)
        conversation.save(force_insert=True)
        return conversation
    rows = Conversation.objects.filter(pk=place.conversation.pk)
    if not rows.update(model=question.model.alias, updated_at=now):
        raise NotFound
    rows.filter(title="").update(title=title_of(ask.prompt))
    return rows.get()
