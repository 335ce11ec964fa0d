"""The one way to an answer. Every door calls it; no door has logic of its own.

    admit (who may ask what) → generate (the provider) → record (always)

It is one async generator of typed events (`inference.events`). Nothing comes out of it before the
provider's first piece is in hand, so that an early failure is an exception, and a true HTTP
status; a later one is a `Failed` event. However it ends, the end is recorded.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import structlog

from inference.admission import Turn, admit
from inference.ask import Ask
from inference.events import Delta, Event, Failed, Finished, Started
from inference.live import LiveAnswer, Stopped, live_answers
from inference.providers.base import ProviderEvent, TextDelta
from inference.record import Outcome, record
from llmsite.core.background import spawn
from llmsite.core.errors import ProviderError, SiteError, UpstreamCut

log = structlog.get_logger("llmsite.pipeline")


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer, for doors that do not stream. `end` is a Failed where it broke off."""

    turn: Turn
    text: str
    end: Finished | Failed


async def complete(ask: Ask) -> Completion:
    """Collect an answer. Leaving (cancellation) stops it upstream. Raises what `answer` raises."""
    turn = await _admit(ask)
    pieces: list[str] = []
    async with aclosing(answer(turn)) as events:
        async for event in events:
            if isinstance(event, Delta):
                pieces.append(event.text)
            elif isinstance(event, Finished | Failed):
                return Completion(turn, "".join(pieces), event)
    raise AssertionError("an answer has exactly one end")


async def _admit(ask: Ask) -> Turn:
    """Admit; where the caller leaves meanwhile, the question that was stored is recorded as stopped."""
    admission = spawn(admit(ask))
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
    """Generate and record the answer to an admitted question.

    Raises the SiteError that came before the first piece. A consumer that closes it or is
    cancelled leaves the answer `stopped`, with the text so far.
    """
    live = LiveAnswer(turn.generation)
    live_answers.add(live)
    outcome: Outcome | None = None
    started = False
    try:
        async with aclosing(turn.provider.stream(turn.request)) as stream:
            while outcome is None:
                step = await _next(live, stream)
                outcome = step if isinstance(step, Outcome) else None
                if not started and (outcome is None or outcome.error is None):
                    started = True
                    yield Started(
                        str(turn.conversation.pk), str(turn.generation.message_id), turn.model.alias
                    )
                if isinstance(step, TextDelta):
                    live.append(step.text)
                    live.prompt_tokens = step.prompt_tokens
                    yield Delta(step.text)
    finally:
        end = await record(turn, live, outcome or Outcome.stopped())
    if outcome.error is not None and not started:
        raise outcome.error
    yield end


async def _next(live: LiveAnswer, stream: AsyncGenerator[ProviderEvent, None]) -> TextDelta | Outcome:
    """The next piece of the answer, or how it ended."""
    try:
        item = await live.next_of(stream)
    except Stopped as stop:
        return Outcome.stopped(stop.reason)
    except StopAsyncIteration:
        return Outcome.failed(UpstreamCut(provider=live.generation.provider))
    except SiteError as error:
        return Outcome.failed(error)
    except Exception as error:
        # A fault of ours in a provider must end the answer like any other failure, and be seen.
        log.exception("provider_crashed", provider=live.generation.provider)
        return Outcome.failed(ProviderError(provider=live.generation.provider, detail=repr(error)))
    return item if isinstance(item, TextDelta) else Outcome.finished(item)
