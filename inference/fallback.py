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
from functools import partial
from itertools import count
from typing import TypedDict

import structlog
from django.conf import settings

from inference.circuits import Deployment, Paused, Permit, circuits
from inference.models import ChatModelConfig
from inference.providers.base import ChatProvider, ChatRequest, Finished, ProviderEvent
from inference.reactions import Reaction, may_have_cost, react, react_late
from llmsite.core import tracing
from llmsite.core.background import spawn
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


TakeItem = Callable[[Answering | ProviderEvent], object]
"""Is given who answers, and then the events of the answer. It neither waits nor raises."""


async def answer_from(candidates: AsyncGenerator[Candidate, None], take: TakeItem) -> None:
    """Give `take` the events of the first candidate that answers, behind one `Answering`.

    Cancelling it closes the call upstream. A question that is at fault itself fails at once. Where nobody
    answers, raises the failure of the first candidate that was called, or NoProviderLeft where all are
    paused.
    """
    await _Chain(take, seconds=settings.TOTAL_TIMEOUT).run(candidates)


class _Chain:
    """The tries for one answer, and what became of them."""

    def __init__(self, take: TakeItem, *, seconds: float) -> None:
        self._take = take
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._attempts: list[Attempt] = []
        self._error: SiteError | None = None
        self._may_have_cost = False
        self._pauses: dict[str, float] = {}

    async def run(self, candidates: AsyncGenerator[Candidate, None]) -> None:
        async with aclosing(candidates):
            async for candidate in candidates:
                if await self._ask(candidate):
                    return
                if self._left() <= 0:
                    break
        raise self._failure()

    async def _ask(self, candidate: Candidate) -> bool:
        """Whether the candidate has answered; else the next one has to be asked."""
        try:
            permit = await circuits.enter(candidate.deployment)
        except Paused as paused:
            self._pauses.setdefault(candidate.model.provider, paused.seconds)
            self._note(candidate, "paused", calls=0)
            return False
        place = _Place(candidate.deployment, permit)
        try:
            # Only now is it known that this one is called.
            if candidate.charge is not None:
                await candidate.charge()
            return await self._tries(candidate, place)
        except BudgetExhausted as exhausted:
            self._note(candidate, describe(exhausted).code, calls=0)
            return False
        finally:
            await place.give_back()

    async def _tries(self, candidate: Candidate, place: "_Place") -> bool:
        for calls in count(1):
            call = _Call(candidate, self._take, begin=partial(self._begin, candidate, place, calls))
            try:
                await self._run(call)
            except SiteError as error:
                if call.has_begun:
                    await circuits.failed(candidate.deployment, react_late(error), code=describe(error).code)
                    raise
                reaction = await self._judge(candidate, error)
                wait = self._wait(reaction, calls)
                if wait is None or not await self._may_ask_again(candidate, wait):
                    self._error = self._error or error
                    self._note(candidate, describe(error).code, calls=calls)
                    return False
            else:
                if call.has_ended:
                    await circuits.succeeded(candidate.deployment)
                return True
        raise AssertionError("counting has no end")

    def _begin(self, candidate: Candidate, place: "_Place", calls: int) -> None:
        """The first piece of a call has come, and is about to be handed on."""
        # The circuit is told now, because the end may be minutes away.
        place.answers(after=calls)
        self._take(Answering(candidate, self._attempts))

    async def _run(self, call: "_Call") -> None:
        """One call, up to its end. Raises also where it ends without an answer."""
        model, request = call.candidate.model, call.candidate.request
        with tracing.chat(model.provider, model.base_url, request) as told:
            await self._run_traced(call)
            if (end := call.end) is not None:
                told.finished(end.finish_reason)
                if end.usage is not None:
                    told.used(input_tokens=end.usage.input_tokens, output_tokens=end.usage.output_tokens)

    async def _run_traced(self, call: "_Call") -> None:
        candidate, provider = call.candidate, call.candidate.model.provider
        try:
            async with asyncio.timeout_at(self._deadline):
                await candidate.provider.stream(candidate.request, call.take)
        except TimeoutError:
            raise ProviderTimeout(provider=provider, phase="total") from None
        if not call.has_begun:
            detail = "an empty answer" if call.has_ended else "no event at all"
            raise ProviderError(provider=provider, status=200, detail=detail)

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
        return self._deadline - asyncio.get_running_loop().time()

    def _note(self, candidate: Candidate, code: str, *, calls: int) -> None:
        model = candidate.model
        self._attempts.append(Attempt(model=model.alias, provider=model.provider, code=code, calls=calls))


class _Call:
    """What has come of one call. Nothing of it is handed on before its first piece."""

    def __init__(self, candidate: Candidate, take: TakeItem, *, begin: Callable[[], None]) -> None:
        self.candidate = candidate
        self.has_begun = False
        self.end: Finished | None = None
        self._take = take
        self._begin = begin

    @property
    def has_ended(self) -> bool:
        return self.end is not None

    def take(self, event: ProviderEvent) -> None:
        if isinstance(event, Finished):
            self.end = event
            if not self.has_begun and self._is_empty(event):
                return
        if not self.has_begun:
            self.has_begun = True
            self._begin()
        self._take(event)

    def _is_empty(self, end: Finished) -> bool:
        """Whether an answer ends where it begins and claims to be whole, as behind a stop string it may."""
        return end.finish_reason == "stop" and not self.candidate.request.stop


class _Place:
    """The leave to ask a deployment, which others wait for where it is on probation."""

    def __init__(self, deployment: Deployment, permit: Permit) -> None:
        self._deployment = deployment
        self._permit: Permit | None = permit

    def answers(self, *, after: int) -> None:
        """It has answered the call of this number: the place goes to others while the answer comes."""
        permit, self._permit = self._permit, None
        if permit is not None:
            spawn(self._hand_over(permit, is_news=bool(permit.probes) or after > 1))

    async def give_back(self) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            await circuits.give_back(permit)

    async def _hand_over(self, permit: Permit, *, is_news: bool) -> None:
        if is_news:
            await circuits.succeeded(self._deployment)
        await circuits.give_back(permit)
