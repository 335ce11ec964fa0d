"""The stage of the pipeline in front of the models: answers that are there, and answers that become so."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from inference.cache.answers import MOST_CHARACTERS, CachedAnswer
from inference.cache.flights import Flights, Take
from inference.cache.levels import Level, Lookup, answer_cache
from inference.fallback import Answering
from inference.providers.base import Finished, ProviderEvent, TextDelta, ToolCallDelta, Usage
from llmsite.core.background import spawn
from llmsite.core.metrics import CACHE_REQUESTS


@dataclass(frozen=True, slots=True)
class Cached:
    """Comes before an answer that costs its reader nothing."""

    level: Level


Item = Cached | Answering | ProviderEvent
Make = Callable[[Take], Awaitable[None]]

flights = Flights(answer_cache.shared)

_KEPT_REASONS = frozenset({"stop", "length"})


def replay_answer(answer: CachedAnswer, level: Level, take: Take) -> None:
    """A cached answer in the pieces in which it once came."""
    take(Cached(level))
    for piece in answer.pieces():
        take(TextDelta(piece))
    take(Finished(answer.finish_reason, Usage(answer.input_tokens, answer.output_tokens)))  # type: ignore[arg-type]


async def through_cache(lookup: Lookup, make: Make, take: Take, *, reach: Hashable) -> None:
    """The answer to a question: one that is kept, one that is being made already, or what `make` makes.

    The levels were asked a moment ago. `reach` says which models the caller may ask: only callers who may ask
    the same ones follow each other. Raises what `make` raises, also where it was somebody else's.
    """
    # Who was given other passages does not follow: the answer cites them by their numbers.
    place = (lookup.key, reach, lookup.grounds)
    flight = flights.board(place)
    if flight is not None:
        CACHE_REQUESTS.labels("l1", "hit").inc()
        take(Cached("l1"))
    elif (hit := answer_cache.find_in_memory(lookup)) is not None and hit.answer.grounds == lookup.grounds:
        # Whoever made it has come to the end since.
        replay_answer(hit.answer, hit.level, take)
        return
    else:
        CACHE_REQUESTS.labels("all", "miss").inc()
        flight = flights.depart(place, partial(_make_once, lookup, make))
    try:
        await flight.follow(take)
    finally:
        await flight.leave()


async def _make_once(lookup: Lookup, make: Make, take: Take) -> None:
    """What another process has made meanwhile, or what this one makes."""
    answer = await flights.answer_of_another_process(lookup.key)
    if answer is not None and answer.grounds == lookup.grounds:
        replay_answer(answer, "l2", take)
        return
    async with _claimed(lookup.key):
        await make_and_keep(lookup, make, take)


@asynccontextmanager
async def _claimed(key: str) -> AsyncIterator[None]:
    """Hold the claim among all processes. An answer that is kept gives it up itself, when level 2 has it."""
    if not answer_cache.shared.enabled:
        yield
        return
    renewal = asyncio.create_task(flights.keep_claim(key))
    try:
        yield
    finally:
        renewal.cancel()
        if answer_cache.memory.find(key) is None:
            spawn(answer_cache.shared.release(key))


async def make_and_keep(lookup: Lookup, make: Make, take: Take) -> None:
    """What `make` makes; where it is whole and may be kept, the cache has it before its end is told."""
    pieces: list[str] = []
    is_ours = True

    def keep(event: Answering | ProviderEvent) -> None:
        nonlocal is_ours
        if isinstance(event, TextDelta):
            pieces.append(event.text)
        elif isinstance(event, Answering):
            # What another model said is no answer of the one that was asked.
            is_ours = event.candidate.model.alias == lookup.model
        elif isinstance(event, ToolCallDelta):
            is_ours = False
        elif is_ours and _is_worth_keeping(pieces, event):
            answer_cache.keep(lookup, _answer(lookup, pieces, event))
        take(event)

    await make(keep)


def _is_worth_keeping(pieces: list[str], end: Finished) -> bool:
    length = sum(map(len, pieces))
    has_words = any(piece.strip() for piece in pieces)
    return end.finish_reason in _KEPT_REASONS and has_words and length <= MOST_CHARACTERS


def _answer(lookup: Lookup, pieces: list[str], end: Finished) -> CachedAnswer:
    return CachedAnswer(
        key=lookup.key,
        text="".join(pieces),
        delta_lengths=tuple(len(piece) for piece in pieces),
        finish_reason=end.finish_reason,
        input_tokens=end.usage.input_tokens if end.usage else 0,
        output_tokens=end.usage.output_tokens if end.usage else 0,
        created=time.time(),
        grounds=lookup.grounds,
    )
