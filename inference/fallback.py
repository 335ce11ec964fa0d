"""Who answers where the first choice cannot: retries, and then the next model. The only retry loop there is.

All of it happens before the first piece, inside one deadline over all tries and candidates. After the first
piece nothing is tried again: whoever reads has seen a part of that answer. reactions.py has the rules,
circuits.py what is left alone.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import TypedDict

import structlog
from django.conf import settings

from inference.circuits import Deployment, Paused, Permit, circuits
from inference.models import ChatModelConfig
from inference.providers.base import ChatProvider, ChatRequest, Finished, ProviderEvent
from inference.reactions import Reaction, may_have_cost, react, react_late
from llmsite.core.errors import (
    BudgetExhausted,
    NoProviderLeft,
    ProviderError,
    ProviderTimeout,
    SiteError,
    describe,
)

log = structlog.get_logger("llmsite.fallback")

RETRIES = 2
FIRST_WAIT_SECONDS = 0.2
"""The first wait, which doubles: with both retries a dead address costs well under a second."""
LONGEST_WAIT_SECONDS = 5.0
"""A provider that asks for a longer wait is left for the next model: a person who waits longer without a sign
asks again, which makes it worse."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that may answer, and the call that would be made."""

    model: ChatModelConfig
    provider: ChatProvider
    request: ChatRequest
    charge: Callable[[], Awaitable[None]] | None = None
    """To be awaited before the first call: lets it be booked as this model's. Raises BudgetExhausted where
    the budget does not bear it."""

    @property
    def deployment(self) -> Deployment:
        return Deployment(self.model.provider, self.model.base_url, self.request.model)


class Attempt(TypedDict):
    """A candidate that failed: the last error's code after so many calls, or after none: `paused`, or that
    of a budget."""

    model: str
    provider: str
    code: str
    calls: int


@dataclass(frozen=True, slots=True)
class Answering:
    """Comes right before the first piece: who answers, and who failed before."""

    candidate: Candidate
    attempts: list[Attempt]


async def answer_from(
    candidates: AsyncGenerator[Candidate, None],
) -> AsyncGenerator[Answering | ProviderEvent, None]:
    """The events of the first candidate that answers, after one `Answering`.

    Closing it closes the call upstream. A question that is at fault itself fails at once. Where nobody
    answers, raises the failure of the first candidate that was called, or NoProviderLeft where all are
    paused.
    """
    clock = asyncio.get_running_loop().time
    chain = _Chain(deadline=clock() + settings.TOTAL_TIMEOUT)
    async with chain:
        candidate, event = await chain.begin(candidates)
        yield Answering(candidate, chain.attempts)
        try:
            while True:
                yield event
                if isinstance(event, Finished):
                    break
                # A piece comes often: a look at the clock, where a timer for each would cost more. Silence
                # is ended by the deadline between two pieces.
                if clock() > chain.deadline:
                    raise ProviderTimeout(provider=candidate.model.provider, phase="total")
                event = await anext(chain.events)
        except StopAsyncIteration:
            return
        except SiteError as error:
            await circuits.failed(candidate.deployment, react_late(error), code=describe(error).code)
            raise
        await circuits.succeeded(candidate.deployment)


class _Chain:
    """The tries for one answer, and what became of them. Leaving it closes the call that is open."""

    events: AsyncGenerator[ProviderEvent, None]
    """Of the last call that was made."""

    def __init__(self, *, deadline: float) -> None:
        self.deadline = deadline
        self.attempts: list[Attempt] = []
        self._error: SiteError | None = None
        self._may_have_cost = False
        self._pauses: dict[str, float] = {}

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc_info: object) -> None:
        if hasattr(self, "events"):
            await self.events.aclose()

    async def begin(self, candidates: AsyncGenerator[Candidate, None]) -> tuple[Candidate, ProviderEvent]:
        """The candidate that answers, and its first event."""
        async with aclosing(candidates):
            async for candidate in candidates:
                if event := await self._ask(candidate):
                    return candidate, event
                if self._left() <= 0:
                    break
        raise self._failure()

    async def _ask(self, candidate: Candidate) -> ProviderEvent | None:
        """The first event of the candidate's answer; None where the next one has to be asked."""
        try:
            permit = await circuits.enter(candidate.deployment)
        except Paused as paused:
            self._pauses.setdefault(candidate.model.provider, paused.seconds)
            self._note(candidate, "paused", calls=0)
            return None
        try:
            # Only now is it known that this one is called.
            if candidate.charge is not None:
                await candidate.charge()
            return await self._tries(candidate, permit)
        except BudgetExhausted as exhausted:
            self._note(candidate, describe(exhausted).code, calls=0)
            return None
        finally:
            await circuits.give_back(permit)

    async def _tries(self, candidate: Candidate, permit: Permit) -> ProviderEvent | None:
        for calls in count(1):
            try:
                event = await self._call(candidate)
            except SiteError as error:
                reaction = await self._judge(candidate, error)
                wait = self._wait(reaction, calls)
                if wait is None or not await self._may_ask_again(candidate, wait):
                    self._error = self._error or error
                    self._note(candidate, describe(error).code, calls=calls)
                    return None
            else:
                if permit.probes or calls > 1:
                    # At the first piece, because the end may be minutes away.
                    await circuits.succeeded(candidate.deployment)
                return event
        raise AssertionError("counting has no end")

    async def _call(self, candidate: Candidate) -> ProviderEvent:
        """One call, up to its first event."""
        self.events = candidate.provider.stream(candidate.request)
        provider = candidate.model.provider
        try:
            async with asyncio.timeout_at(self.deadline):
                event = await anext(self.events)
        except TimeoutError:
            raise ProviderTimeout(provider=provider, phase="total") from None
        except StopAsyncIteration:
            raise ProviderError(provider=provider, status=200, detail="no event at all") from None
        if _is_empty(event) and not candidate.request.stop:
            raise ProviderError(provider=provider, status=200, detail="an empty answer")
        return event

    async def _judge(self, candidate: Candidate, error: SiteError) -> Reaction:
        """Count the error where it belongs. Raises it where the question itself is at fault."""
        reaction, code = react(error), describe(error).code
        self._may_have_cost = self._may_have_cost or may_have_cost(error)
        log.info("try_failed", model=candidate.model.alias, code=code, error=str(error))
        if not reaction.fall_back:
            await circuits.succeeded(candidate.deployment)  # It was there to refuse the question.
            raise self._for_all_calls(error)
        await circuits.failed(candidate.deployment, reaction, code=code)
        return reaction

    def _wait(self, reaction: Reaction, calls: int) -> float | None:
        """Seconds until the same is asked again; None where it is not."""
        if not reaction.retry or calls > RETRIES:
            return None
        if reaction.wait is None:
            seconds = FIRST_WAIT_SECONDS * 2 ** (calls - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        else:
            # Never earlier than asked for, and not all at once.
            seconds = reaction.wait + random.uniform(0.02, 0.2)  # noqa: S311 - no secret
        return seconds if seconds <= min(LONGEST_WAIT_SECONDS, self._left()) else None

    async def _may_ask_again(self, candidate: Candidate, wait: float) -> bool:
        """Wait, and see whether the circuit is open then, for longer or because of others' failures."""
        await asyncio.sleep(wait)
        return not circuits.pause_of(candidate.deployment)

    def _failure(self) -> SiteError:
        """What to tell when nobody is left: the first failure, or how long the shortest pause lasts."""
        if self._error is not None:
            return self._for_all_calls(self._error)
        provider = next(iter(self._pauses), "")
        return NoProviderLeft(provider=provider, retry_after=min(self._pauses.values(), default=1.0))

    def _for_all_calls(self, error: SiteError) -> SiteError:
        """`error`, which may have cost something where any call of the chain may have."""
        error.may_have_cost = self._may_have_cost
        return error

    def _left(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()

    def _note(self, candidate: Candidate, code: str, *, calls: int) -> None:
        model = candidate.model
        self.attempts.append(Attempt(model=model.alias, provider=model.provider, code=code, calls=calls))


def _is_empty(first: ProviderEvent) -> bool:
    """Whether an answer ends where it begins and claims to be whole, as behind a stop string it may."""
    return isinstance(first, Finished) and first.finish_reason == "stop"
