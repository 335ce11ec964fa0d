"""The stage of the pipeline in front of the models: answers that are there, and answers that become so."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from inference.cache.answers import MOST_CHARACTERS, CachedAnswer
from inference.cache.flights import Flight, Flights
from inference.cache.levels import Hit, Lookup, answer_cache
from inference.fallback import Answering
from inference.providers.base import Finished, ProviderEvent, TextDelta, ToolCallDelta, Usage
from llmsite.core.background import spawn
from llmsite.core.errors import SiteError

Item = Hit | Answering | ProviderEvent
Make = Callable[[], AsyncGenerator[Answering | ProviderEvent, None]]

flights = Flights(answer_cache.shared)

_KEPT_REASONS = frozenset({"stop", "length"})


async def told(hit: Hit) -> AsyncGenerator[Item, None]:
    """A cached answer in the pieces in which it once came."""
    yield hit
    answer = hit.answer
    for piece in answer.pieces():
        yield TextDelta(piece)
    yield Finished(answer.finish_reason, Usage(answer.input_tokens, answer.output_tokens))  # type: ignore[arg-type]


async def through_cache(lookup: Lookup, make: Make) -> AsyncGenerator[Item, None]:
    """The answer to a question: one that is kept, one that is being made already, or what `make` makes.

    The levels were asked a moment ago. A `Hit` comes first where the answer comes from the cache all the same.
    Raises what `make` raises, also where it was somebody else's that this question waited for.
    """
    if (hit := await _find(lookup)) is not None:
        async for item in told(hit):
            yield item
        return
    async with flights.depart(lookup.key) as flight:
        if (answer := await flights.answer_of_another_process(lookup.key)) is not None:
            flight.land(answer)
            async for item in told(Hit(answer, "l2")):
                yield item
            return
        async with _claimed(lookup.key), aclosing(make_and_keep(lookup, make, flight)) as items:
            async for made in items:
                yield made


async def _find(lookup: Lookup) -> Hit | None:
    # Whoever made it may have come to the end since.
    if (hit := answer_cache.find_in_memory(lookup)) is not None:
        return hit
    answer = await flights.answer_of_another(lookup.key)
    return None if answer is None else Hit(answer, "l1")


@asynccontextmanager
async def _claimed(key: str) -> AsyncIterator[None]:
    if not answer_cache.shared.enabled:
        yield
        return
    renewal = asyncio.create_task(flights.keep_claim(key))
    try:
        yield
    finally:
        renewal.cancel()
        spawn(answer_cache.shared.release(key))


async def make_and_keep(
    lookup: Lookup, make: Make, flight: Flight | None = None
) -> AsyncGenerator[Answering | ProviderEvent, None]:
    """What `make` makes; where it is whole and may be kept, the cache has it before its end is told."""
    pieces: list[str] = []
    is_ours, began = True, False
    try:
        async with aclosing(make()) as events:
            async for event in events:
                began = True
                if isinstance(event, Answering):
                    # What another model said is no answer of the one that was asked.
                    is_ours = event.candidate.model.alias == lookup.model
                elif isinstance(event, TextDelta):
                    pieces.append(event.text)
                elif isinstance(event, ToolCallDelta):
                    is_ours = False
                elif isinstance(event, Finished) and is_ours:
                    _keep(lookup, pieces, event, flight)
                yield event
    except SiteError as error:
        if flight is not None and not began:
            flight.fail(error)
        raise


def _keep(lookup: Lookup, pieces: list[str], end: Finished, flight: Flight | None) -> None:
    text = "".join(pieces)
    if end.finish_reason not in _KEPT_REASONS or not text.strip() or len(text) > MOST_CHARACTERS:
        return
    answer = CachedAnswer(
        key=lookup.key,
        text=text,
        delta_lengths=tuple(len(piece) for piece in pieces),
        finish_reason=end.finish_reason,
        input_tokens=end.usage.input_tokens if end.usage else 0,
        output_tokens=end.usage.output_tokens if end.usage else 0,
        created=time.time(),
    )
    answer_cache.keep(lookup, answer)
    if flight is not None:
        flight.land(answer)
