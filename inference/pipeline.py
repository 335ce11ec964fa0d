"""The one way to an answer. Every door calls it; no door has logic of its own.

    prepare (who may ask what) → cache → admit (rows, budget) → generate (with fallbacks) → record (always)

It is one async generator of typed events (`inference.events`). Nothing comes out of it before the first
piece is in hand, a provider's or the cache's, so that an early failure is an exception, and a true HTTP
status; a later one is a `Failed` event. However it ends, the end is recorded.
"""

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from inference.admission import Turn, admit
from inference.ask import Ask
from inference.cache.levels import CachedHit, answer_cache
from inference.cache.stage import Cached, Item, make_and_keep, replayed, through_cache
from inference.candidates import candidates, note_answering
from inference.events import Delta, Event, Failed, Finished, Started, ToolCallPiece
from inference.fallback import Answering, answer_from
from inference.hit_writer import hit_writer
from inference.hits import QuickHit, may_be_quick
from inference.live import LiveAnswer, Stopped, live_answers
from inference.providers.base import ProviderEvent, TextDelta, ToolCallDelta
from inference.question import Question, prepare, without_lookup_of_the_moment
from inference.record import Outcome, record
from inference.replay import started_event
from llmsite.core.background import spawn
from llmsite.core.errors import ProviderError, SiteError, UpstreamCut

log = structlog.get_logger("llmsite.pipeline")


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer, for doors that do not stream. `end` is a Failed where it broke off."""

    started: Started
    text: str
    tool_calls: tuple[ToolCallPiece, ...]
    end: Finished | Failed


async def complete(ask: Ask) -> Completion:
    """Collect an answer. Leaving (cancellation) stops it upstream. Raises what `stream` raises."""
    question, hit = await find_answer(ask)
    if hit is not None and may_be_quick(ask):
        quick = QuickHit(question, hit)
        await hit_writer.add(quick)
        return Completion(quick.started, hit.answer.text, (), quick.finished)
    return await _collect(answer(await _admit(question, hit)))


async def _collect(events: AsyncGenerator[Event, None]) -> Completion:
    started: Started | None = None
    pieces: list[str] = []
    calls: list[ToolCallPiece] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Delta):
                pieces.append(event.text)
            elif isinstance(event, Started):
                started = event
            elif isinstance(event, ToolCallPiece):
                calls.append(event)
            elif started is not None:
                return Completion(started, "".join(pieces), tuple(calls), event)
    raise AssertionError("an answer has exactly one beginning and one end")


async def stream(ask: Ask) -> AsyncGenerator[Event, None]:
    """The events of an answer that belongs to its caller: closing it stops the answer, upstream too.

    Raises what `prepare` and `admit` raise, and the SiteError that came before the first piece.
    """
    question, hit = await find_answer(ask)
    if hit is not None and may_be_quick(ask):
        quick = QuickHit(question, hit)
        await hit_writer.add(quick)
        for event in quick.events():
            yield event
        return
    async with aclosing(answer(await _admit(question, hit))) as events:
        async for event in events:
            yield event


async def find_answer(ask: Ask) -> tuple[Question, CachedHit | None]:
    """The question as it is to be asked, and the cache's answer, where it has one and may give it.

    Raises what `prepare` raises.
    """
    if ask.conversation is not None:
        await hit_writer.written(ask.conversation)
    question = await prepare(ask)
    lookup, may_look = question.lookup, question.ask.use_cache
    if lookup is not None and may_look and (hit := answer_cache.find_in_memory(lookup)) is not None:
        return question, hit
    question = without_lookup_of_the_moment(question)
    if question.lookup is None or not may_look:
        return question, None
    return question, await answer_cache.find_further(question.lookup)


async def _admit(question: Question, hit: CachedHit | None) -> Turn:
    """Admit; where the caller leaves meanwhile, the question that was stored is recorded as stopped."""
    admission = spawn(admit(question, hit=hit))
    try:
        return await asyncio.shield(admission)
    except asyncio.CancelledError:
        spawn(_stop_unanswered(admission))
        raise


async def _stop_unanswered(admission: asyncio.Task[Turn]) -> None:
    with suppress(SiteError):
        turn = await admission
        await record(turn, LiveAnswer(turn.generation), Outcome.stopped())


async def answer(turn: Turn) -> AsyncGenerator[Event, None]:
    """Answer an admitted question and record it.

    Raises the SiteError that came before the first piece. A consumer that closes it or is
    cancelled leaves the answer `stopped`, with the text so far.
    """
    live = LiveAnswer(turn.generation)
    live_answers.add(live)
    outcome: Outcome | None = None
    started = False
    try:
        async with aclosing(_source(turn)) as source:
            while outcome is None:
                step = await _next(live, source)
                if isinstance(step, Cached | Answering):
                    await _note(turn, live, step)
                    continue
                outcome = step if isinstance(step, Outcome) else None
                if not started and (outcome is None or outcome.error is None):
                    started = True
                    yield started_event(turn.generation)
                if isinstance(step, TextDelta | ToolCallDelta):
                    yield live.take(step)
    finally:
        end = await record(turn, live, outcome or Outcome.stopped())
    if outcome.error is not None and not started:
        raise outcome.error
    yield end


def _source(turn: Turn) -> AsyncGenerator[Any, None]:
    """Where the pieces come from."""
    question = turn.question
    if turn.hit is not None:
        return replayed(turn.hit.answer, turn.hit.level)
    make = partial(_make, turn)
    if question.lookup is None:
        return make()
    if not question.ask.use_cache:
        return make_and_keep(question.lookup, make)
    return through_cache(question.lookup, make, reach=_reach(question.ask))


def _reach(ask: Ask) -> Hashable:
    """Which models may answer: a key can be limited to some."""
    return frozenset(ask.api_key.allowed_models) if ask.api_key else frozenset()


def _make(turn: Turn) -> AsyncGenerator[Answering | ProviderEvent, None]:
    return answer_from(candidates(turn.question, turn.generation))


async def _note(turn: Turn, live: LiveAnswer, source: Cached | Answering) -> None:
    """Keep in mind who answers, before the answer begins."""
    if isinstance(source, Cached):
        live.cache = turn.generation.cache = source.level
        return
    live.answering = source.candidate
    if source.attempts:
        await note_answering(turn.generation, source)


async def _next(live: LiveAnswer, source: AsyncGenerator[Item, None]) -> Item | Outcome:
    """The next piece of the answer, or how it ended."""
    try:
        item = await live.next_of(source)
    except Stopped as stop:
        return Outcome.stopped(stop.reason)
    except StopAsyncIteration:
        return Outcome.failed(UpstreamCut(provider=live.generation.provider))
    except SiteError as error:
        return Outcome.failed(error)
    except Exception as error:
        # A fault of ours in a provider must end the answer like any other failure, and be seen.
        log.exception("provider_crashed", provider=live.generation.provider)
        # Its words may repeat the prompt.
        detail = type(error).__name__
        return Outcome.failed(ProviderError(provider=live.generation.provider, detail=detail))
    if isinstance(item, Cached | Answering | TextDelta | ToolCallDelta):
        return item
    return Outcome.finished(item)
