"""Who may answer a question, in their order: the model that was asked, then its fallbacks."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from channels.db import database_sync_to_async

from accounts.ledger import switch
from inference.context import most_prompt_tokens
from inference.fallback import Answering, Candidate
from inference.models import Generation
from inference.providers.base import ChatRequest
from inference.question import Question, others
from llmsite.core.metrics import FALLBACKS


async def candidates(question: Question, generation: Generation) -> AsyncGenerator[Candidate, None]:
    """The models one after the other, each made ready only when the ones before have failed.

    A fallback that the caller may not ask, or that cannot take the question, is left out. What is set aside
    for the call stands at the first model's prices until another one is really called.
    """
    yield Candidate(question.model, question.provider, _named(question))
    async for other in others(question):
        charge = partial(database_sync_to_async(_charge), other, generation)
        yield Candidate(other.model, other.provider, _named(other), charge)


def _named(question: Question) -> ChatRequest:
    """What goes upstream, under the id of the request that asks."""
    return replace(question.request, request_id=question.ask.request_id or None)


def _charge(question: Question, generation: Generation) -> None:
    """Let the call be booked at the prices of the model that is asked now."""
    model, request = question.model, question.request
    switch(
        generation.pk,
        payer=question.ask.user,
        api_key=question.ask.api_key,
        model=model.alias,
        provider=model.provider,
        input_price=model.input_price,
        output_price=model.output_price,
        input_tokens_at_most=most_prompt_tokens(request),
        output_tokens_at_most=request.max_tokens,
    )


def note_answering(generation: Generation, answering: Answering) -> None:
    """Let the generation say who answers in place of the model that was asked, and who failed before."""
    candidate = answering.candidate
    FALLBACKS.labels(generation.model_alias, candidate.model.alias, answering.attempts[0]["code"]).inc()
    generation.requested_model = generation.model_alias
    generation.model_alias = candidate.model.alias
    generation.provider = candidate.model.provider
    generation.adapter = candidate.model.adapter
    generation.attempts = answering.attempts


async def save_answering(generation: Generation) -> None:
    """And let its row say so."""
    names = ("requested_model", "model_alias", "provider", "adapter", "attempts")
    values = {name: getattr(generation, name) for name in names}
    # One that was taken for dead meanwhile stays as it was counted.
    rows = Generation.objects.running().filter(pk=generation.pk)
    await database_sync_to_async(rows.update)(**values)
