"""How an answer ended, and the row that says so: written on every exit, once."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Self

import structlog
from channels.db import database_sync_to_async
from django.db import Error as DatabaseFailure

from inference.admission import Turn
from inference.events import Failed, Finished
from inference.live import LiveAnswer, live_answers
from inference.models import Generation, Status
from inference.providers import base
from inference.reactions import may_have_cost
from llmsite.core.background import run_apart
from llmsite.core.errors import (
    AnswerNotSaved,
    Interrupted,
    ProviderFailure,
    ServerRestarting,
    SiteError,
    describe,
)
from llmsite.core.metrics import (
    COST,
    FIRST_TOKEN_SECONDS,
    GENERATION_SECONDS,
    GENERATIONS,
    OUTPUT_TOKEN_SECONDS,
    TOKENS,
)

log = structlog.get_logger("llmsite.record")

SAVE_DELAYS = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries to store an end while the database is away."""
COUNT_SECONDS = 0.5
"""How long a provider may take to count the tokens of an answer that broke off; then they are estimated."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an answer as the pipeline saw it."""

    status: Status
    finish_reason: str = ""
    usage: base.Usage | None = None
    error: SiteError | None = None
    stop_sequence: str = ""

    @classmethod
    def finished(cls, end: base.Finished) -> Self:
        return cls(Status.FINISHED, end.finish_reason, end.usage, stop_sequence=end.stop_sequence)

    @classmethod
    def stopped(cls, reason: SiteError | None = None) -> Self:
        """By the user, or, with a reason, by the site itself."""
        if reason is None:
            return cls(Status.STOPPED, "cancelled")
        return cls(Status.INTERRUPTED, error=reason)

    @classmethod
    def failed(cls, error: SiteError) -> Self:
        return cls(Status.FAILED, error=error)


async def record(turn: Turn, live: LiveAnswer, outcome: Outcome) -> Finished | Failed:
    """Store the end with the whole text, and tell it as an event.

    It runs apart from its caller, so that a client that leaves cannot cancel it.
    """
    return await run_apart(_record(turn, live, outcome))


async def _record(turn: Turn, live: LiveAnswer, outcome: Outcome) -> Finished | Failed:
    try:
        return await _store_end(turn, live, outcome)
    finally:
        live_answers.remove(live)


async def _store_end(turn: Turn, live: LiveAnswer, outcome: Outcome) -> Finished | Failed:
    await live_answers.begin_end(live)
    values = _values(live, outcome)
    values |= await _usage(turn, live, outcome)
    if not await _save(turn.generation, live.text, values):
        # Another process took this one for dead and has told an end already, or the row was deleted.
        return Failed.of(Interrupted(), turn.generation.request_id or None)
    _count_answer(turn.generation)
    return _event(turn.generation, outcome)


def _count_answer(generation: Generation) -> None:
    names = (generation.provider, generation.model_alias)
    GENERATIONS.labels(*names, generation.status).inc()
    GENERATION_SECONDS.labels(*names).observe((generation.latency_ms or 0) / 1000)
    if not generation.cache:
        _count_work(generation, names)


def _count_work(generation: Generation, names: tuple[str, str]) -> None:
    """What it took a model, where one was asked."""
    TOKENS.labels(*names, "input").inc(generation.input_tokens or 0)
    TOKENS.labels(*names, "output").inc(generation.output_tokens or 0)
    COST.labels(*names).inc(generation.cost_micro / 1e6)
    first, end, written = generation.time_to_first_token_ms, generation.latency_ms, generation.output_tokens
    if first is None:
        return
    FIRST_TOKEN_SECONDS.labels(*names).observe(first / 1000)
    if end is not None and written is not None and written > 1:
        OUTPUT_TOKEN_SECONDS.labels(*names).observe((end - first) / 1000 / (written - 1))


def _values(live: LiveAnswer, outcome: Outcome) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": _status(live, outcome),
        "tool_calls": [call for _, call in sorted(live.tool_calls.items())],
        "finish_reason": outcome.finish_reason,
        "delta_lengths": live.delta_lengths,
        "latency_ms": live.elapsed_ms(),
        "time_to_first_token_ms": live.first_piece_ms,
    }
    if outcome.error is not None:
        values |= {"error_code": describe(outcome.error).code, "error_data": outcome.error.public_data}
    return values


def _status(live: LiveAnswer, outcome: Outcome) -> Status:
    # What breaks after the first piece was cut: there is a text, and it is not whole.
    if outcome.status == Status.FAILED and live.has_begun:
        return Status.CUT
    return outcome.status


async def _usage(turn: Turn, live: LiveAnswer, outcome: Outcome) -> dict[str, Any]:
    """Tokens as the provider reported them, else our own count of what went in and came out."""
    if live.cache:
        return {"cache": live.cache, "is_free": True, **_told_tokens(outcome)}
    if outcome.usage is not None:
        return _tokens(outcome.usage.input_tokens, outcome.usage.output_tokens, estimated=False)
    if not live.was_asked or (not live.has_begun and _was_refused(outcome.error)):
        return _tokens(0, 0, estimated=False)
    prompt, reply = await _count(turn, live)
    return _tokens(prompt if live.prompt_tokens is None else live.prompt_tokens, reply, estimated=True)


def _told_tokens(outcome: Outcome) -> dict[str, Any]:
    """Of an answer that nobody was asked for: what the one took that it repeats."""
    usage = outcome.usage or base.Usage(0, 0)
    return _tokens(usage.input_tokens, usage.output_tokens, estimated=False)


def _tokens(prompt: int, reply: int, *, estimated: bool) -> dict[str, Any]:
    return {"input_tokens": prompt, "output_tokens": reply, "usage_estimated": estimated}


def _was_refused(error: SiteError | None) -> bool:
    """Whether nobody upstream was reached, or all said no: then nobody has worked on anything."""
    return error is not None and not may_have_cost(error)


async def _count(turn: Turn, live: LiveAnswer) -> tuple[int, int]:
    """Tokens of the prompt and of the text so far, by our own count."""
    asked = live.answering or turn.question
    request, messages = asked.request, asked.request.messages
    if live.has_begun:
        messages = (*messages, base.ChatMessage("assistant", live.written))
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            counts = await asked.provider.count_tokens(request.model, messages)
    except (ProviderFailure, TimeoutError):
        counts = base.estimate_tokens(messages)
    sent = len(request.messages)
    return sum(counts[:sent]), sum(counts[sent:])


async def _save(generation: Generation, text: str, values: dict[str, Any]) -> bool:
    for delay in (*SAVE_DELAYS, None):
        try:
            return await database_sync_to_async(generation.end)(text, **values)
        except DatabaseFailure as error:
            log.warning("end_not_saved", generation=str(generation.pk), retry_in=delay, exc_info=True)
            if delay is None:
                # The row stays as it was last saved, and the sweep ends it once the database is back.
                raise AnswerNotSaved from error
            await asyncio.sleep(delay)
    raise AssertionError("the last try returns or raises")


def _event(generation: Generation, outcome: Outcome) -> Finished | Failed:
    if outcome.error is not None:
        _log_failure(generation, outcome.error)
        return Failed.of(outcome.error, generation.request_id or None)
    # Only told here: the row does not keep it, and a replay does without.
    return replace(finished_event(generation), stop_sequence=outcome.stop_sequence)


def finished_event(generation: Generation) -> Finished:
    """The event of an answer's end, from its row."""
    return Finished(
        finish_reason=generation.finish_reason,
        usage=generation.usage,
        cost=generation.cost,
        latency_ms=generation.latency_ms,
        time_to_first_token_ms=generation.time_to_first_token_ms,
        cache=generation.cache or None,
        context_trimmed=generation.context_trimmed,
        dropped_parameters=generation.dropped_parameters,
    )


def _log_failure(generation: Generation, error: SiteError) -> None:
    level = log.info if isinstance(error, ServerRestarting) else log.warning
    level("answer_failed", generation=str(generation.pk), provider=generation.provider, error=str(error))
