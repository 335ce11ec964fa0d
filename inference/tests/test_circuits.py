"""Circuits: what opens them, what closes them, and that all processes share them, with Redis or without."""

import asyncio
import signal

import pytest

from accounts.limits import shared_redis as shared_redis_module
from accounts.limits.shared_redis import SharedRedis, _LoopClient
from accounts.tests.redis_servers import own_redis
from inference import circuits as module
from inference.circuits import FAILURES_IN_A_ROW, Circuits, Deployment, Paused
from inference.reactions import Blame, Reaction

ONE = Deployment("openai", "", "gpt")
SIBLING = Deployment("openai", "", "gpt-mini")
ELSEWHERE = Deployment("openai", "http://127.0.0.1:9/v1", "gpt")
MODEL_FAILED = Reaction(blame=Blame.MODEL)
ADDRESS_FAILED = Reaction(blame=Blame.ADDRESS)


@pytest.fixture(scope="module")
def redis_url():
    with own_redis() as server:
        yield server.url


@pytest.fixture
def shared(redis_url):
    # A machine that is busy with other tests shall not look like a Redis that is away.
    shared = SharedRedis(redis_url, timeout=30)
    shared.run_sync(shared_redis_module.Script("redis.call('FLUSHDB') return {}"), [], [])
    yield shared
    shared.reset()


@pytest.fixture(params=["memory", "redis"])
def circuits(request):
    return Circuits(None if request.param == "memory" else request.getfixturevalue("shared"))


@pytest.fixture
def at_once(monkeypatch):
    """What other processes do is seen at once."""
    monkeypatch.setattr(module, "LAG_SECONDS", 0.0)


async def fail(circuits, times=1, *, one=ONE, reaction=MODEL_FAILED):
    for _ in range(times):
        await circuits.failed(one, reaction, code="provider_error")


async def opened(circuits, *, seconds=3600.0, one=ONE, blame=Blame.MODEL):
    await circuits.failed(one, Reaction(blame=blame, pause=seconds), code="provider_rate_limited")


async def is_paused(circuits, one=ONE):
    try:
        await circuits.give_back(await circuits.enter(one))
    except Paused:
        return True
    return False


async def state_of(circuits):
    return [(one.model, one.state, one.code, one.failures) for one in await circuits.states()]


class TestOneProcess:
    async def test_failures_in_a_row_open_it(self, circuits):
        await fail(circuits, FAILURES_IN_A_ROW - 1)
        assert not await is_paused(circuits)

        await fail(circuits)

        with pytest.raises(Paused) as caught:
            await circuits.enter(ONE)
        assert 9 < caught.value.seconds <= 10
        assert await state_of(circuits) == [("gpt", "open", "provider_error", FAILURES_IN_A_ROW)]

    async def test_a_success_between_them_begins_the_row_anew(self, circuits):
        await fail(circuits, FAILURES_IN_A_ROW - 1)
        await circuits.succeeded(ONE)
        await fail(circuits, FAILURES_IN_A_ROW - 1)

        assert not await is_paused(circuits)

    async def test_a_pause_that_was_asked_for_begins_at_once(self, circuits):
        await opened(circuits, seconds=600.0)

        with pytest.raises(Paused) as caught:
            await circuits.enter(ONE)
        assert 599 < caught.value.seconds <= 600

    async def test_a_models_failures_are_its_own(self, circuits):
        await opened(circuits)

        assert not await is_paused(circuits, SIBLING)
        assert not await is_paused(circuits, ELSEWHERE)

    async def test_an_address_is_that_of_all_its_models(self, circuits):
        await opened(circuits, blame=Blame.ADDRESS)

        assert await is_paused(circuits, ONE)
        assert await is_paused(circuits, SIBLING)
        assert not await is_paused(circuits, ELSEWHERE)

    async def test_what_is_nobodys_fault_counts_for_nobody(self, circuits):
        await fail(circuits, 20, reaction=Reaction())

        assert await circuits.states() == []

    async def test_after_the_pause_one_call_of_many_is_the_probe(self, circuits):
        await opened(circuits, seconds=0.02)
        await asyncio.sleep(0.05)

        answers = await asyncio.gather(*(circuits.enter(ONE) for _ in range(20)), return_exceptions=True)

        assert sum(not isinstance(answer, Paused) for answer in answers) == 1
        assert [row.state for row in await circuits.states()] == ["half-open"]

    async def test_a_probe_that_is_answered_closes_it(self, circuits, caplog):
        await opened(circuits, seconds=0.02)
        await asyncio.sleep(0.05)
        await circuits.enter(ONE)
        await circuits.succeeded(ONE)

        assert [await is_paused(circuits) for _ in range(3)] == [False] * 3
        assert await circuits.states() == []
        assert told(caplog) == ["provider_paused", "provider_back"]

    async def test_a_probe_that_fails_opens_it_again(self, circuits):
        await opened(circuits, seconds=0.02)
        await asyncio.sleep(0.05)
        await circuits.enter(ONE)
        await fail(circuits)

        assert await is_paused(circuits)
        assert [row.state for row in await circuits.states()] == ["open"]

    async def test_a_probe_whose_caller_leaves_makes_room_for_the_next(self, circuits):
        await opened(circuits, seconds=0.02)
        await asyncio.sleep(0.05)
        permit = await circuits.enter(ONE)
        assert await is_paused(circuits)
        await circuits.give_back(permit)

        assert not await is_paused(circuits)

    async def test_half_a_probe_is_given_back(self, circuits):
        """The model is being tried by somebody else, so nobody is the probe of the address."""
        await opened(circuits, seconds=0.02)
        await asyncio.sleep(0.05)
        await circuits.enter(ONE)
        await opened(circuits, seconds=0.02, blame=Blame.ADDRESS)
        await asyncio.sleep(0.05)
        with pytest.raises(Paused):
            await circuits.enter(ONE)

        await circuits.enter(SIBLING)

    async def test_calls_that_began_before_do_not_change_the_pause(self, circuits):
        await opened(circuits, seconds=600.0)
        await fail(circuits, 3)
        await circuits.succeeded(ONE)

        with pytest.raises(Paused) as caught:
            await circuits.enter(ONE)
        assert 599 < caught.value.seconds <= 600

    async def test_staff_is_told_once_of_a_pause(self, circuits, caplog):
        await fail(circuits, FAILURES_IN_A_ROW + 20)

        assert told(caplog) == ["provider_paused"]

    async def test_when_it_is_tried_again_is_a_moment(self, circuits):
        await opened(circuits, seconds=600.0)
        [row] = await circuits.states()

        assert row.retry_at.tzinfo is not None
        assert (row.provider, row.base_url) == ("openai", "")


def told(caplog):
    return [record.msg["event"] for record in caplog.records if record.name == "llmsite.circuits"]


class TestSeveralProcesses:
    @pytest.fixture
    def others(self, redis_url):
        """The circuits of other processes."""
        clients = [SharedRedis(redis_url, timeout=30) for _ in range(3)]
        yield [Circuits(client) for client in clients]
        for client in clients:
            client.reset()

    @pytest.fixture
    def here(self, shared):
        return Circuits(shared)

    async def test_failures_of_all_are_one_row(self, here, others, at_once):
        for circuits in (*others, here):
            await fail(circuits)
        assert not await is_paused(here)
        await fail(others[0])

        assert [await is_paused(circuits) for circuits in (here, *others)] == [True] * 4

    async def test_a_success_anywhere_ends_the_row(self, here, others, at_once):
        await fail(here, FAILURES_IN_A_ROW - 1)
        await others[0].enter(ONE)
        await others[0].succeeded(ONE)
        await fail(here)

        assert not await is_paused(here)

    async def test_one_of_all_is_the_probe(self, here, others, at_once):
        await opened(here, seconds=0.02)
        await asyncio.sleep(0.05)

        everybody = [circuits.enter(ONE) for circuits in (here, *others) for _ in range(5)]
        answers = await asyncio.gather(*everybody, return_exceptions=True)

        assert sum(not isinstance(answer, Paused) for answer in answers) == 1

    async def test_a_closed_circuit_costs_one_question_in_the_time_of_the_lag(self, here, monkeypatch):
        monkeypatch.setattr(module, "LAG_SECONDS", 3600.0)
        sent = counted(monkeypatch)

        for _ in range(100):
            await here.enter(ONE)
            await here.succeeded(ONE)

        assert len(sent) == 1


def counted(monkeypatch):
    sent, run = [], _LoopClient.run

    async def counting(client, *question):
        sent.append(question)
        return await run(client, *question)

    monkeypatch.setattr(_LoopClient, "run", counting)
    return sent


class TestWithoutRedis:
    async def test_each_process_goes_on_by_itself(self, monkeypatch):
        monkeypatch.setattr(shared_redis_module, "PAUSE_SECONDS", 3600.0)
        with own_redis() as server:
            shared = SharedRedis(server.url)
            circuits = Circuits(shared)
            await opened(circuits)
            server.process.send_signal(signal.SIGSTOP)
            sent = counted(monkeypatch)
            await fail(circuits, FAILURES_IN_A_ROW, one=SIBLING)

            assert await is_paused(circuits, ONE)
            assert await is_paused(circuits, SIBLING)
            assert len(sent) == 1
            shared.reset()
