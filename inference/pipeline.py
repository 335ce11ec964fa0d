"""The one way to an answer. Every door calls it; no door has logic of its own.

    prepare (who may ask what) → verified answers → cache → documents → admit (rows, budget)
    → generate (with fallbacks) → record (always)

It tells typed events (`inference.events`) to a function of the door's, each in the turn of the loop in which
its piece came: nobody is woken for it on the way. Nothing is told before the first piece is in hand, a
provider's or the cache's, so that an early failure is an exception, and a true HTTP status; a later one is a
`Failed` event. However it ends, the end is recorded.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from django.conf import settings

from inference.admission import Turn, admit
from inference.ask import Ask
from inference.cache.flights import Take
from inference.cache.levels import CachedHit, answer_cache
from inference.cache.stage import Cached, Item, Make, make_and_keep, replay_answer, through_cache
from inference.candidates import candidates, note_answering, save_answering
from inference.events import Delta, Event, Failed, Finished, Sources, Started, ToolCallPiece
from inference.fallback import Answering, answer_from
from inference.grounding.grounds import Grounds
from inference.grounding.stage import grounded
from inference.hit_writer import hit_writer
from inference.hits import QuickHit, may_be_quick
from inference.live import LiveAnswer, Stopped, live_answers
from inference.providers.base import Finished as ProviderFinished
from inference.providers.base import TextDelta, ToolCallDelta, Usage
from inference.question import Question, answered_by, prepare, without_lookup_of_the_moment
from inference.record import Outcome, record
from inference.replay import started_event
from inference.verified import hit_of
from llmsite.core.background import spawn
from llmsite.core.errors import ProviderError, SiteError, UpstreamCut
from llmsite.core.logs import shortened

log = structlog.get_logger("llmsite.pipeline")

Tell = Callable[[Event], object]
"""Is told the next event of an answer. It neither waits nor raises: others may read the same answer."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer, for doors that do not stream. `end` is a Failed where it broke off.

    `grounds` is what it stands on, where documents were asked.
    """

    started: Started
    text: str
    tool_calls: tuple[ToolCallPiece, ...]
    end: Finished | Failed
    grounds: Grounds | None = None


async def complete(ask: Ask) -> Completion:
    """Collect an answer. Leaving (cancellation) stops it upstream. Raises what `stream` raises."""
    question, hit = await find_answer(ask)
    if hit is not None and may_be_quick(ask):
        quick = QuickHit(question, hit)
        await hit_writer.add(quick)
        return Completion(quick.started, hit.answer.text, (), quick.finished, question.grounds)
    events: list[Any] = []
    await answer(await _admit(question, hit), events.append)
    started, *pieces, end = events
    text = "".join(piece.text for piece in pieces if isinstance(piece, Delta))
    calls = tuple(piece for piece in pieces if isinstance(piece, ToolCallPiece))
    return Completion(started, text, calls, end, question.grounds)


async def stream(ask: Ask, tell: Tell) -> None:
    """Tell the events of an answer that belongs to its caller: cancelling it stops the answer, upstream too.

    Raises what `prepare` and `admit` raise, and the SiteError that came before the first piece.
    """
    question, hit = await find_answer(ask)
    if hit is None or not may_be_quick(ask):
        await answer(await _admit(question, hit), tell)
        return
    quick = QuickHit(question, hit)
    await hit_writer.add(quick)
    for event in quick.events():
        tell(event)


async def find_answer(ask: Ask) -> tuple[Question, CachedHit | None]:
    """The question as it is to be asked, and the answer that a curator verified, or the cache has, if any.

    Documents are looked into only where there is none. Raises what `prepare` and `grounded` raise.
    """
    if settings.LOG_PROMPTS:
        log.info("question", prompt=shortened(ask.prompt), door=ask.door)
    if ask.conversation is not None:
        await hit_writer.written(ask.conversation)
    question = await prepare(ask)
    lookup, may_look = question.lookup, question.ask.use_cache
    if question.verified is not None and may_look and (hit := await hit_of(question.verified)) is not None:
        return question, hit
    if lookup is not None and may_look and (hit := answer_cache.find_in_memory(lookup)) is not None:
        return answered_by(hit, question), hit
    question = without_lookup_of_the_moment(question)
    if question.lookup is not None and may_look:
        hit = await answer_cache.find_further(question.lookup)
        if hit is not None:
            return answered_by(hit, question), hit
    return await grounded(question), None


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
        await record(turn, LiveAnswer(turn.generation, began=turn.question.began), Outcome.stopped())


async def answer(turn: Turn, tell: Tell) -> None:
    """Answer an admitted question, tell its events, and record it.

    Raises the SiteError that came before the first piece, of which nothing is told. Being cancelled leaves
    the answer `stopped`, with the text so far.
    """
    telling = _Telling(turn, tell)
    live_answers.add(telling.live)
    outcome = None
    try:
        outcome = await _outcome(telling)
        await telling.noted()
    finally:
        end = await record(turn, telling.live, outcome or telling.outcome or Outcome.stopped())
    if outcome.error is not None and not telling.has_begun:
        raise outcome.error
    if not telling.has_begun:
        telling.begin()
    tell(end)


_PIECES = (TextDelta, ToolCallDelta)


class _Telling:
    """What becomes of the items of one answer: its text so far, and the events that are told."""

    def __init__(self, turn: Turn, tell: Tell) -> None:
        self.turn = turn
        self.live = LiveAnswer(turn.generation, began=turn.question.began)
        self.has_begun = False
        self.outcome: Outcome | None = None
        """The end, once the model has told it."""
        self._tell = tell
        self._notes: list[asyncio.Task[None]] = []

    def take(self, item: Item) -> None:
        if isinstance(item, _PIECES):
            if not self.has_begun:
                self.begin()
            self._tell(self.live.take(item))
        elif isinstance(item, Cached):
            self.live.cache = self.turn.generation.cache = item.level
        elif isinstance(item, Answering):
            self._note(item)
        else:
            self.outcome = Outcome.finished(item)

    def begin(self) -> None:
        self.has_begun = True
        self._tell(started_event(self.turn.generation))
        if (grounds := self.turn.question.grounds) is not None:
            self._tell(Sources.of(grounds))

    def _note(self, answering: Answering) -> None:
        """Keep in mind who answers, before the answer begins."""
        self.live.answering = answering.candidate
        if answering.attempts:
            note_answering(self.turn.generation, answering)
            self._notes.append(spawn(save_answering(self.turn.generation)))

    async def noted(self) -> None:
        """Wait until the row says who answers."""
        await asyncio.gather(*self._notes)


async def _outcome(telling: _Telling) -> Outcome:
    """Let the answer be made and told, up to its end."""
    live = telling.live
    try:
        await live.wait_for(partial(_pour, telling.turn, telling.take))
    except Stopped as stop:
        return telling.outcome or Outcome.stopped(stop.reason)
    except SiteError as error:
        return telling.outcome or Outcome.failed(error)
    except Exception as error:
        # A fault of ours in a provider must end the answer like any other failure, and be seen.
        log.exception("provider_crashed", provider=live.generation.provider)
        # Its words may repeat the prompt.
        detail = type(error).__name__
        failure = ProviderError(provider=live.generation.provider, detail=detail)
        return telling.outcome or Outcome.failed(failure)
    return telling.outcome or Outcome.failed(UpstreamCut(provider=live.generation.provider))


async def _pour(turn: Turn, take: Take) -> None:
    """Give `take` the items of the answer, from wherever they come."""
    question = turn.question
    make: Make = partial(_write, question.written) if question.written else partial(_make, turn)
    if turn.hit is not None:
        replay_answer(turn.hit.answer, turn.hit.level, take)
    elif question.lookup is None:
        await make(take)
    elif not question.ask.use_cache:
        await make_and_keep(question.lookup, make, take)
    else:
        await through_cache(question.lookup, make, take, reach=_reach(question.ask))


def _reach(ask: Ask) -> Hashable:
    """Which models may answer: a key can be limited to some."""
    return frozenset(ask.api_key.allowed_models) if ask.api_key else frozenset()


async def _write(pieces: Sequence[str], take: Take) -> None:
    """An answer that no model has to make."""
    for piece in pieces:
        take(TextDelta(piece))
    take(ProviderFinished("stop", Usage(0, 0)))


async def _make(turn: Turn, take: Take) -> None:
    await answer_from(candidates(turn.question, turn.generation), take)
