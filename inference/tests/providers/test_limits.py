"""So many calls run, so many wait, the rest is refused at once; and an answer without an end is given one."""

import asyncio
from contextlib import aclosing

import pytest

from inference.providers import get_provider
from inference.providers.base import ChatProvider, Finished, TextDelta, Timeouts, ToolCallDelta, Usage
from inference.providers.deadlines import CHARACTERS_PER_TOKEN, SPARE_CHARACTERS, Deadlines
from inference.providers.limits import Bounded
from inference.providers.local import LocalProvider
from inference.tests.providers.asking import (
    a_request,
    collect,
    collect_until_error,
    end_of,
    stream,
    text_of,
)
from inference.tests.standin import Answer, StandIn
from inference.tests.waiting import until
from llmsite.core import errors

CALLERS = 200


@pytest.fixture
def bounded(standin: StandIn) -> Bounded:
    return Bounded(LocalProvider(base_url=standin.url, embedded=False), running=5, waiting=10, seconds=30)


async def started(standin: StandIn, count: int) -> None:
    assert await asyncio.to_thread(standin.wait_for_calls, count)


async def cancel(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestBounds:
    async def test_of_many_callers_some_run_some_wait_and_the_rest_is_refused(
        self, bounded: Bounded, standin: StandIn
    ) -> None:
        standin.choose = lambda body: Answer(head_start=30)
        tasks = [asyncio.create_task(collect_until_error(bounded)) for _ in range(CALLERS)]
        await started(standin, 5)

        refused = [task.result()[1] for task in tasks if task.done()]

        assert len(refused) == CALLERS - 5 - 10
        assert {type(error) for error in refused} == {errors.ProviderBusy}
        assert errors.describe(refused[0]).status == 503
        assert refused[0].retry_after
        assert len(standin.calls) == 5
        await cancel(tasks)

    async def test_the_refused_never_wait(self, bounded: Bounded, standin: StandIn) -> None:
        """They come to an end in the very turn of the loop in which they ask."""
        standin.choose = lambda body: Answer(head_start=30)
        tasks = [asyncio.create_task(collect_until_error(bounded)) for _ in range(15)]
        await started(standin, 5)

        late = [asyncio.create_task(collect_until_error(bounded)) for _ in range(50)]
        await asyncio.sleep(0)

        assert all(task.done() for task in late)
        await cancel(tasks)

    async def test_those_that_wait_are_answered_in_their_turn(
        self, bounded: Bounded, standin: StandIn
    ) -> None:
        answers = await asyncio.gather(*(collect(bounded) for _ in range(15)))

        assert [text_of(events) for events in answers] == ["Hello, world!"] * 15
        assert len(standin.calls) == 15

    async def test_a_waiting_caller_that_leaves_frees_its_place(
        self, bounded: Bounded, standin: StandIn
    ) -> None:
        standin.choose = lambda body: Answer(head_start=30)
        running = [asyncio.create_task(collect_until_error(bounded)) for _ in range(5)]
        await started(standin, 5)
        for _ in range(3):
            waiting = [asyncio.create_task(collect_until_error(bounded)) for _ in range(10)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            await cancel(waiting)

        assert len(standin.calls) == 5
        await cancel(running)

    async def test_a_running_caller_that_leaves_frees_its_place(
        self, bounded: Bounded, standin: StandIn
    ) -> None:
        for _ in range(20):
            events = stream(bounded)
            async with aclosing(events), asyncio.timeout(10):
                assert isinstance(await anext(events), TextDelta)

        assert text_of(await collect(bounded)) == "Hello, world!"

    async def test_who_waits_in_vain_is_told_that_it_is_our_queue(self, settings, standin: StandIn) -> None:
        settings.LOCAL_BASE_URL, settings.PROVIDER_CONCURRENCY = standin.url, 1
        standin.choose = lambda body: Answer(pieces=("a", "b"), gap=30)
        running = asyncio.create_task(collect_until_error(get_provider("local")))
        await started(standin, 1)
        provider = get_provider("local")
        provider._seconds = 0.1

        _, error = await collect_until_error(provider)

        assert type(error) is errors.ProviderBusy
        assert len(standin.calls) == 1
        await cancel([running])

    async def test_the_time_in_the_queue_is_not_the_providers(self, settings, standin: StandIn) -> None:
        settings.LOCAL_BASE_URL, settings.PROVIDER_CONCURRENCY = standin.url, 1
        settings.FIRST_TOKEN_TIMEOUT = 0.6
        standin.choose = lambda body: Answer(head_start=0.4)

        answers = await asyncio.gather(*(collect(get_provider("local")) for _ in range(2)))

        assert [text_of(events) for events in answers] == ["Hello, world!"] * 2

    async def test_a_place_that_nobody_waited_for_in_the_end_is_not_lost(
        self, bounded: Bounded, standin: StandIn
    ) -> None:
        bounded._seconds = 0.05
        standin.choose = lambda body: Answer(head_start=30)
        running = [asyncio.create_task(collect_until_error(bounded)) for _ in range(5)]
        await started(standin, 5)
        for _ in range(3):
            late = await asyncio.gather(*(collect_until_error(bounded) for _ in range(10)))
            assert {type(error) for _, error in late} == {errors.ProviderBusy}
        await cancel(running)
        standin.choose = lambda body: Answer()

        assert text_of(await collect(bounded)) == "Hello, world!"

    def test_each_event_loop_has_its_own_places(self, bounded: Bounded) -> None:
        for _ in range(3):
            assert text_of(asyncio.run(collect(bounded))) == "Hello, world!"

    async def test_the_settings_bound_every_provider(self, settings, standin: StandIn) -> None:
        settings.LOCAL_BASE_URL, settings.PROVIDER_CONCURRENCY, settings.PROVIDER_QUEUE = standin.url, 2, 0
        standin.choose = lambda body: Answer(head_start=30)
        tasks = [asyncio.create_task(collect_until_error(get_provider("local"))) for _ in range(6)]
        await started(standin, 2)

        await until(lambda: sum(task.done() for task in tasks) == 4)
        assert len(standin.calls) == 2
        await cancel(tasks)


class Endless(ChatProvider):
    """Writes the same piece for ever."""

    name = "endless"

    def __init__(self, piece: TextDelta | ToolCallDelta) -> None:
        self.piece = piece
        self.closed = False

    async def stream(self, request, take):
        try:
            while True:
                take(self.piece)
                await asyncio.sleep(0)
        finally:
            self.closed = True


class TestEnd:
    @pytest.mark.parametrize(
        "piece",
        [TextDelta("word "), TextDelta("é🗼"), ToolCallDelta(0, arguments="[1, 2, "), TextDelta("x" * 9999)],
    )
    async def test_an_endless_answer_is_ended_and_closed_upstream(self, piece) -> None:
        provider = Endless(piece)

        events = await collect(Deadlines(provider, Timeouts()), a_request(max_tokens=10))

        most = SPARE_CHARACTERS + CHARACTERS_PER_TOKEN * 10
        size = len(piece.text if isinstance(piece, TextDelta) else piece.arguments)
        assert len(events) - 1 == most // size
        assert end_of(events) == Finished("length", None)
        assert provider.closed

    async def test_the_server_sees_the_connection_closed(self, standin: StandIn) -> None:
        standin.script(Answer(pieces=("x" * 1000,) * 10_000, end="hang"))
        provider = Deadlines(LocalProvider(base_url=standin.url, embedded=False), Timeouts())

        events = await collect(provider, a_request(max_tokens=10))

        assert end_of(events).finish_reason == "length"
        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)

    async def test_an_answer_of_the_length_that_was_asked_for_is_left_alone(self, standin: StandIn) -> None:
        standin.script(Answer(pieces=("a word ",) * 1000))
        provider = Deadlines(LocalProvider(base_url=standin.url, embedded=False), Timeouts())

        events = await collect(provider, a_request(max_tokens=1000))

        assert len(text_of(events)) == 7000
        assert end_of(events).usage == Usage(9, 1000)
