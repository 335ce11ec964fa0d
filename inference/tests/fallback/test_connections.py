"""Connections that fail, deadlines, and whose fault that is: counted at the stand-ins, one for each model."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from inference import fallback
from inference.circuits import FAILURES_IN_A_ROW
from inference.fallback import Answering
from inference.providers.base import TextDelta, Timeouts
from inference.providers.limits import Bounded
from inference.tests.fallback.candidates import FAILED, PROVIDERS, a_candidate, ask, each, events_of, refused
from inference.tests.standin import Answer
from llmsite.core import errors, lateness


class TestConnections:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_nobody_at_the_address(self, provider, other, second, closed_url, circuits):
        gone = a_candidate(closed_url, provider=provider)

        for _ in range(3):
            assert (await ask(gone, other))[0] == "second"

        assert len(second.calls) == 3
        [row] = await circuits.states()
        # It is the address that is paused, with all its models.
        assert (row.state, row.model, row.failures) == ("open", "", FAILURES_IN_A_ROW)

    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_nobody_who_accepts(self, provider, other, deaf_url, monkeypatch):
        monkeypatch.setattr(lateness, "LATE_SECONDS", 60)  # However busy this machine is.
        _, attempts, _ = await ask(a_candidate(deaf_url, provider=provider), other)

        assert attempts == [("first", provider, "provider_timeout", 3)]

    async def test_no_first_piece_is_for_the_next_model_without_a_retry(self, standin, other, second):
        slow = a_candidate(standin.url, timeouts=Timeouts(first_token=0.2))
        standin.script(Answer(head_start=30))

        _, attempts, _ = await ask(slow, other)

        assert attempts == [("first", "local", "provider_timeout", 1)]
        assert (len(standin.calls), len(second.calls)) == (1, 1)
        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)

    async def test_one_deadline_holds_over_all_tries(self, first, other, standin, second, settings):
        settings.TOTAL_TIMEOUT = 0.3
        standin.script(FAILED, Answer(delay=30))

        error = await refused(first, other)

        assert (type(error), error.data["phase"]) == (errors.ProviderTimeout, "total")
        assert (len(standin.calls), len(second.calls)) == (2, 0)

    async def test_and_over_the_answer(self, first, standin, settings):
        settings.TOTAL_TIMEOUT = 0.5
        standin.script(Answer(pieces=("x",) * 1000, gap=0.02))

        error = await refused(first)

        assert (type(error), error.data["phase"]) == (errors.ProviderTimeout, "total")
        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)

    async def test_leaving_closes_the_connection_and_asks_nobody_else(
        self, any_first, other, standin, second
    ):
        standin.script(Answer(pieces=("word ",) * 1000, gap=0.05))
        async with aclosing(events_of(each(any_first, other))) as events:
            assert isinstance(await anext(events), Answering)
            assert await anext(events) == TextDelta("word ")

        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)
        assert second.calls == []

    async def test_candidates_after_the_one_that_answers_are_not_prepared(self, first):
        prepared = []

        async def candidates():
            for number in range(3):
                prepared.append(number)
                yield first

        async with aclosing(events_of(candidates())) as events:
            assert [event async for event in events]

        assert prepared == [0]


class TestOurOwnFault:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_a_loop_that_was_late_to_connect_blames_nobody(
        self,
        provider,
        deaf_url,
        circuits,
        monkeypatch,
    ):
        monkeypatch.setattr(fallback, "RETRIES", 0)
        asking = asyncio.create_task(refused(a_candidate(deaf_url, provider=provider)))
        while not asking.done():
            time.sleep(0.4)  # noqa: ASYNC251 - as many answers would that begin at once
            await asyncio.sleep(0.01)

        error = asking.result()

        assert (type(error), error.data["phase"]) == (errors.ProviderBusy, "connect")
        assert await circuits.states() == []

    async def test_it_is_tried_again(self, standin, deaf_url, circuits, monkeypatch):
        slow = a_candidate(deaf_url)
        monkeypatch.setattr(lateness, "LATE_SECONDS", -60)

        _, attempts, _ = await ask(slow, a_candidate(standin.url, alias="second"))

        assert attempts == [("first", "local", "provider_busy", 3)]
        assert await circuits.states() == []

    async def test_who_waited_in_our_queue_in_vain_is_answered_by_the_next(
        self, standin, other, second, circuits
    ):
        candidate = a_candidate(standin.url)
        bounded = Bounded(candidate.provider, running=1, waiting=5, seconds=0.1)
        standin.script(Answer(pieces=("a", "b"), gap=30))
        holder = asyncio.create_task(ask(replace(candidate, provider=bounded)))
        assert await asyncio.to_thread(standin.wait_for_calls, 1)

        alias, attempts, _ = await ask(replace(candidate, provider=bounded), other)

        assert (alias, attempts) == ("second", [("first", "local", "provider_busy", 1)])
        assert len(standin.calls) == 1
        assert await circuits.states() == []
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
