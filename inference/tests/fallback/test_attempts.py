"""Who is asked how often, and who answers in the end: counted at the stand-ins, one for each model."""

import asyncio
from dataclasses import replace

import pytest

from inference import fallback
from inference.circuits import FAILURES_IN_A_ROW, Row
from inference.fallback import Candidate
from inference.models import ChatModelConfig
from inference.providers.base import TextDelta, Timeouts
from inference.providers.limits import Bounded
from inference.tests.fallback.candidates import FAILED, a_candidate, ask, each, events_of, refused
from inference.tests.standin import Answer
from llmsite.core import errors


class TestRetries:
    @pytest.mark.parametrize("status", [500, 502, 503, 529])
    async def test_a_failure_is_tried_twice_more_and_then_the_next_model(
        self, any_first, other, standin, second, status
    ):
        standin.script(*[Answer(status=status)] * 4)

        alias, attempts, text = await ask(any_first, other)

        code = "provider_error" if status < 503 else "provider_unavailable"
        assert (alias, text) == ("second", "Hello, world!")
        assert attempts == [("first", any_first.model.provider, code, 3)]
        assert (len(standin.calls), len(second.calls)) == (3, 1)

    async def test_a_failure_that_passes_is_not_seen(self, any_first, other, standin, second):
        standin.script(FAILED, FAILED, Answer())

        assert await ask(any_first, other) == ("first", [], "Hello, world!")
        assert (len(standin.calls), len(second.calls)) == (3, 0)

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(pieces=(), error={"type": "overloaded_error", "message": "Overloaded"}),
            Answer(raw=b""),
            Answer(pieces=(), end="rst"),
            Answer(pieces=(), end="no_end_mark"),
        ],
        ids=["an error as the first event", "an empty stream", "a reset", "no end"],
    )
    async def test_a_status_of_200_without_an_answer_is_a_failure(
        self, any_first, other, standin, second, answer
    ):
        standin.script(*[answer] * 3)

        alias, _, _ = await ask(any_first, other)

        assert alias == "second"
        assert (len(standin.calls), len(second.calls)) == (3, 1)

    async def test_without_another_model_the_error_is_told(self, first, standin):
        standin.script(*[FAILED] * 3)

        assert isinstance(await refused(first), errors.ProviderError)
        assert len(standin.calls) == 3

    async def test_the_first_models_error_is_told_where_all_fail(self, first, other, standin, second):
        standin.script(*[Answer(status=503)] * 3)
        second.script(*[FAILED] * 3)

        assert isinstance(await refused(first, other), errors.ProviderUnavailable)
        assert (len(standin.calls), len(second.calls)) == (3, 3)

    async def test_the_waits_grow_and_differ(self, first, standin, monkeypatch):
        waits, wait = [], fallback._Chain._wait

        def noted(*arguments):
            waits.append(wait(*arguments))
            return waits[-1] and 0.0

        monkeypatch.setattr(fallback, "FIRST_WAIT_SECONDS", 0.2)
        monkeypatch.setattr(fallback._Chain, "_wait", noted)
        standin.choose = lambda body: FAILED
        for number in range(10):
            await refused(replace(first, model=ChatModelConfig(provider="local", base_url=str(number))))

        assert waits[2::3] == [None] * 10
        assert all(0.1 <= wait <= 0.2 for wait in waits[0::3])
        assert all(0.2 <= wait <= 0.4 for wait in waits[1::3])
        assert len(set(waits)) > 10


class TestNothingIsTriedAgain:
    @pytest.mark.parametrize("status", [400, 413, 422])
    async def test_a_question_that_is_at_fault_fails_at_once(
        self, any_first, other, standin, second, status, circuits
    ):
        standin.script(Answer(status=status))

        assert isinstance(await refused(any_first, other), errors.ProviderRejected)
        assert (len(standin.calls), len(second.calls)) == (1, 0)
        assert await circuits.states() == []

    async def test_a_prompt_that_is_too_long_fails_at_once(self, any_first, other, standin, second):
        said = "prompt is too long: 5000 tokens > 4096 maximum"
        standin.script(Answer(status=400, body={"error": {"type": "invalid_request_error", "message": said}}))

        assert isinstance(await refused(any_first, other), errors.ContextLengthExceeded)
        assert (len(standin.calls), len(second.calls)) == (1, 0)

    @pytest.mark.parametrize("end", ["fin", "rst", "no_end_mark"])
    async def test_after_the_first_piece(self, any_first, other, standin, second, end):
        standin.script(Answer(pieces=("Hel", "lo"), end=end))
        events = events_of(each(any_first, other))
        seen = [await anext(events) for _ in range(3)]
        with pytest.raises(errors.UpstreamCut):
            await anext(events)

        assert seen[1:] == [TextDelta("Hel"), TextDelta("lo")]
        assert (len(standin.calls), len(second.calls)) == (1, 0)

    async def test_after_an_error_event_in_mid_stream(self, any_first, other, standin, second):
        standin.script(Answer(pieces=("Hel",), error={"type": "overloaded_error", "message": "Overloaded"}))

        assert isinstance(await refused(any_first, other), errors.ProviderFailure)
        assert (len(standin.calls), len(second.calls)) == (1, 0)


class TestPauses:
    @pytest.mark.parametrize("status", [401, 402])
    async def test_a_refused_key_pauses_the_address_and_the_next_answers(
        self, any_first, other, standin, second, status, circuits, caplog
    ):
        sibling = a_candidate(standin.url, provider=any_first.model.provider, alias="sibling")
        standin.script(Answer(status=status))

        answers = [await ask(any_first, sibling, other) for _ in range(3)]

        assert [alias for alias, _, _ in answers] == ["second"] * 3
        assert (len(standin.calls), len(second.calls)) == (1, 3)
        assert answers[0][1][1] == ("sibling", any_first.model.provider, "paused", 0)
        told = [record.msg for record in caplog.records if record.name == "llmsite.circuits"]
        assert [(entry["event"], entry["code"]) for entry in told] == [
            ("provider_paused", "provider_rejected")
        ]
        [row] = await circuits.states()
        assert (row.state, row.model, row.code) == ("open", "", "provider_rejected")

    @pytest.mark.parametrize("status", [404, 307])
    async def test_a_model_that_is_not_there_pauses_the_model_alone(
        self, any_first, other, standin, second, status
    ):
        sibling = a_candidate(standin.url, provider=any_first.model.provider, alias="sibling")
        standin.script(Answer(status=status, headers={"location": second.url}))

        assert (await ask(any_first, other))[0] == "second"
        assert (await ask(any_first, sibling))[0] == "sibling"
        assert (len(standin.calls), len(second.calls)) == (2, 1)

    async def test_a_short_wait_that_was_asked_for_is_waited_for(self, any_first, other, standin, second):
        standin.script(Answer(status=429, headers={"retry-after-ms": "50", "retry-after": "1"}))

        assert await ask(any_first, other) == ("first", [], "Hello, world!")
        assert (len(standin.calls), len(second.calls)) == (2, 0)

    async def test_a_long_one_is_for_the_next_model(self, any_first, other, standin, second, circuits):
        standin.script(Answer(status=429, headers={"retry-after": "600"}))

        assert (await ask(any_first, other))[0] == "second"
        assert (len(standin.calls), len(second.calls)) == (1, 1)
        [row] = await circuits.states()
        assert (row.state, row.code) == ("open", "provider_rate_limited")

    async def test_a_long_one_is_told_where_nobody_is_left(self, any_first, standin):
        standin.script(Answer(status=429, headers={"retry-after": "600"}))

        told = [(await refused(any_first)), (await refused(any_first))]

        assert isinstance(told[0], errors.ProviderRateLimited)
        assert told[0].retry_after == 600
        assert isinstance(told[1], errors.NoProviderLeft)
        assert 599 < told[1].retry_after <= 600
        assert len(standin.calls) == 1

    async def test_a_wait_that_the_deadline_does_not_bear_is_not_begun(
        self, first, other, standin, second, settings
    ):
        settings.TOTAL_TIMEOUT = 1.5
        standin.script(Answer(status=429, headers={"retry-after": "2"}))

        assert (await ask(first, other))[0] == "second"
        assert (len(standin.calls), len(second.calls)) == (1, 1)

    async def test_five_failures_in_a_row_pause_it(self, first, other, standin, second):
        standin.choose = lambda body: FAILED

        for _ in range(4):
            assert (await ask(first, other))[0] == "second"

        assert (len(standin.calls), len(second.calls)) == (FAILURES_IN_A_ROW, 4)

    async def test_when_all_are_paused_it_is_told_at_once_and_until_when(self, first, other, standin, second):
        standin.choose = second.choose = lambda body: FAILED
        for _ in range(2):
            await refused(first, other)
        calls = len(standin.calls), len(second.calls)

        error = await refused(first, other)

        assert isinstance(error, errors.NoProviderLeft)
        assert 0 < error.retry_after <= 10
        assert errors.describe(error).status == 503
        assert (len(standin.calls), len(second.calls)) == calls == (5, 5)

    async def test_the_first_call_after_the_pause_is_the_only_one_until_it_is_answered(
        self, standin, second, monkeypatch
    ):
        monkeypatch.setattr("inference.circuits.COOL_DOWN_SECONDS", 0.1)
        first, other = a_candidate(standin.url), a_candidate(second.url, alias="second")
        standin.choose = lambda body: FAILED
        for _ in range(2):
            await ask(first, other)
        assert len(standin.calls) == FAILURES_IN_A_ROW
        standin.choose = lambda body: Answer(head_start=0.3)
        await asyncio.sleep(0.15)

        answers = await asyncio.gather(*(ask(first, other) for _ in range(10)))

        assert sorted(alias for alias, _, _ in answers) == ["first", *["second"] * 9]
        assert len(standin.calls) == FAILURES_IN_A_ROW + 1
        standin.choose = lambda body: Answer()
        assert [(await ask(first, other))[0] for _ in range(3)] == ["first"] * 3

    async def test_a_probe_that_fails_is_one_call(self, standin, second, monkeypatch):
        monkeypatch.setattr("inference.circuits.COOL_DOWN_SECONDS", 0.1)
        first, other = a_candidate(standin.url), a_candidate(second.url, alias="second")
        standin.choose = lambda body: FAILED
        for _ in range(2):
            await ask(first, other)
        await asyncio.sleep(0.15)

        assert (await ask(first, other))[0] == "second"
        assert len(standin.calls) == FAILURES_IN_A_ROW + 1

    async def test_answers_that_are_always_cut_pause_it_too(self, first, other, standin, second):
        standin.choose = lambda body: Answer(pieces=("Hel",), end="fin")
        for _ in range(FAILURES_IN_A_ROW):
            assert isinstance(await refused(first, other), errors.UpstreamCut)

        assert (await ask(first, other))[0] == "second"

    async def test_a_caller_that_leaves_the_probe_makes_room_for_the_next(self, standin, circuits):
        first = a_candidate(standin.url)
        standin.script(Answer(status=429, headers={"retry-after-ms": "6000"}), Answer(delay=30))
        await refused(first)
        circuits._rows[first.deployment].until = 0.0
        leaving = asyncio.create_task(ask(first))
        assert await asyncio.to_thread(standin.wait_for_calls, 2)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving

        assert (await ask(first))[0] == "first"


class TestCharges:
    @pytest.fixture
    def charged(self):
        return []

    def charging(self, candidate, charged, error=None):
        async def charge():
            charged.append(candidate.model.alias)
            if error is not None:
                raise error

        return replace(candidate, charge=charge)

    async def test_a_model_is_charged_once_when_it_is_called(self, first, other, standin, second, charged):
        standin.script(*[FAILED] * 3)
        second.script(FAILED)

        await ask(self.charging(first, charged), self.charging(other, charged))

        assert charged == ["first", "second"]
        assert (len(standin.calls), len(second.calls)) == (3, 2)

    async def test_one_that_is_paused_is_not_charged(self, first, other, standin, second, charged):
        second.script(Answer(status=404))
        assert isinstance(await refused(other), errors.ProviderRejected)
        standin.script(FAILED, FAILED, FAILED)

        await refused(first, self.charging(other, charged))

        assert charged == []

    async def test_one_that_the_budget_does_not_bear_gives_way_to_the_next(
        self, first, other, standin, second, charged
    ):
        standin.script(*[FAILED] * 3)
        dear = self.charging(replace(other, model=ChatModelConfig(alias="dear", provider="local")), charged)
        dear = self.charging(dear, charged, errors.BudgetReserved())

        alias, attempts, _ = await ask(first, dear, other)

        assert (alias, attempts[1]) == ("second", ("dear", "local", "budget_reserved", 0))
        assert len(second.calls) == 1

    async def test_a_probe_that_the_budget_does_not_bear_makes_room_for_the_next(
        self, first, charged, circuits
    ):
        circuits._rows[first.deployment] = Row(FAILURES_IN_A_ROW, 0.0, 0.0, "provider_error")
        await refused(self.charging(first, charged, errors.BudgetReserved()))

        assert (await ask(first))[0] == "first"


class TestCosts:
    """What is told where nobody answers says whether anybody may have worked on the question."""

    async def test_all_said_no(self, first, other, standin, second):
        standin.script(Answer(status=401))
        second.script(*[FAILED] * 3)

        assert (await refused(first, other)).may_have_cost is False

    @pytest.mark.parametrize("status", [401, 429, 500])
    async def test_the_first_said_no_and_the_next_was_left(self, first, standin, second, status):
        slow = a_candidate(second.url, alias="second", timeouts=Timeouts(first_token=0.2))
        standin.choose = lambda body: Answer(status=status)
        second.script(Answer(head_start=30))

        error = await refused(first, slow)

        assert not isinstance(error, errors.ProviderTimeout)
        assert error.may_have_cost is True

    async def test_the_first_was_left_and_the_next_refuses_the_question(self, other, standin, second):
        slow = a_candidate(standin.url, timeouts=Timeouts(first_token=0.2))
        standin.script(Answer(head_start=30))
        second.script(Answer(status=400))

        error = await refused(slow, other)

        assert isinstance(error, errors.ProviderRejected)
        assert error.may_have_cost is True


async def test_a_queue_that_is_full_is_for_the_next_model_and_no_failure(standin, other, circuits):
    candidate = a_candidate(standin.url)
    bounded = Bounded(candidate.provider, running=1, waiting=0, seconds=30)
    full = Candidate(candidate.model, bounded, candidate.request)
    standin.script(Answer(head_start=30))
    holder = asyncio.create_task(ask(full))
    assert await asyncio.to_thread(standin.wait_for_calls, 1)

    alias, attempts, _ = await ask(full, other)

    assert (alias, attempts) == ("second", [("first", "local", "provider_busy", 1)])
    assert await circuits.states() == []
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
