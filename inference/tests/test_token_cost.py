"""What a token costs on its way through a web process: wake-ups, timers and writes."""

import asyncio
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts import watch
from conftest import bearer
from inference import generations, live
from inference.ask import Ask
from inference.event_log import event_logs
from inference.mirror import event_mirror
from inference.providers.base import Finished, TextDelta
from inference.providers.scripted import ScriptedProvider
from inference.tests.waiting import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("settled"),
]

TOKENS = 20
PROMPT = "What costs a token?"
DOORS = {
    "/api/predict/stream": {"prompt": PROMPT, "model": "scripted"},
    "/v1/chat/completions": {
        "model": "scripted",
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": True,
    },
    "/v1/messages": {
        "model": "scripted",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 1000,
        "stream": True,
    },
}


@pytest.fixture
def quiet(monkeypatch):
    """Nothing but the tokens wakes anybody."""
    monkeypatch.setattr(live, "BEAT_SECONDS", 1000)
    monkeypatch.setattr(watch, "CHECK_SECONDS", 1000)
    monkeypatch.setattr(generations, "TICK_SECONDS", 1000)
    monkeypatch.setattr(event_mirror, "_url", "")


@pytest.fixture
def reads(monkeypatch):
    """What is read of the model's server: each item is what one read brings, and an empty one the end."""
    queue = asyncio.Queue()

    async def stream(self, request):
        while pieces := await queue.get():
            for piece in pieces:
                yield TextDelta(piece)
        yield Finished("stop", None)

    monkeypatch.setattr(ScriptedProvider, "stream", stream)
    return queue


async def chunks_of(user, door):
    headers = await sync_to_async(bearer)(user)
    answer = await AsyncClient().post(door, DOORS[door], content_type="application/json", headers=headers)
    assert answer.status_code == 200
    return aiter(answer.streaming_content)


@contextmanager
def counted_work():
    """What the event loop is given to run, soon or at some time, in the block."""
    loop, given = asyncio.get_running_loop(), []
    call_soon, call_at = loop.call_soon, loop.call_at

    def counted_soon(callback, *args, **values):
        given.append(callback)
        return call_soon(callback, *args, **values)

    def counted_at(when, callback, *args, **values):
        given.append(callback)
        return call_at(when, callback, *args, **values)

    loop.call_soon, loop.call_at = counted_soon, counted_at
    try:
        yield given
    finally:
        del loop.call_soon, loop.call_at


async def begun(user, door, reads):
    """The chunks behind the second piece: by then all timers of the stream are set."""
    reads.put_nowait(["first"])
    chunks = await chunks_of(user, door)
    await read_until(chunks, "first")
    reads.put_nowait(["second"])
    await read_until(chunks, "second")
    return chunks


async def read_until(chunks, text):
    while text not in (await anext(chunks)).decode():
        pass


@pytest.mark.usefixtures("models", "quiet")
@pytest.mark.parametrize("door", DOORS)
async def test_a_token_wakes_its_call_and_its_reader_and_nobody_else(door, alice, reads):
    chunks = await begun(alice, door, reads)

    with counted_work() as given:
        for number in range(TOKENS):
            reads.put_nowait([f"token{number}"])
            assert f"token{number}" in (await anext(chunks)).decode()

    assert len(given) == 2 * TOKENS
    reads.put_nowait([])
    assert b"stop" in b"".join([chunk async for chunk in chunks])


@pytest.mark.usefixtures("models", "quiet")
async def test_who_asks_the_same_and_does_not_read_wakes_nobody(alice, reads):
    chunks = await begun(alice, "/api/predict/stream", reads)
    asks = [Ask(user=alice, door="test", prompt=PROMPT, model="scripted") for _ in range(3)]
    turns = [await generations.start(ask, wait_for_first_piece=True) for ask in asks]

    with counted_work() as given:
        for number in range(TOKENS):
            reads.put_nowait([f"token{number}"])
            await anext(chunks)

    assert len(given) == 2 * TOKENS
    logs = [event_logs.find(turn.generation.pk) for turn in turns]
    # started, two pieces, and all that came since
    assert [len(log) for log in logs] == [3 + TOKENS] * 3
    reads.put_nowait([])
    await until(lambda: all(log.ended for log in logs))


@pytest.mark.usefixtures("models", "quiet")
@pytest.mark.parametrize("door", DOORS)
async def test_what_one_read_brings_is_one_write(door, alice, reads):
    chunks = await begun(alice, door, reads)
    reads.put_nowait([f"token{number}" for number in range(TOKENS)])

    written = (await anext(chunks)).decode()

    places = [written.index(f'"token{number}"') for number in range(TOKENS)]
    assert places == sorted(places)
    reads.put_nowait([])
    assert b"stop" in b"".join([chunk async for chunk in chunks])
