"""What a token costs on its way through a web process: wake-ups, timers and writes."""

import asyncio
import json
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
from llmsite.core.outlet import EXTENSION
from llmsite.handler import SiteHandler

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

    async def stream(self, request, take):
        while pieces := await queue.get():
            for piece in pieces:
                take(TextDelta(piece))
        take(Finished("stop", None))

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


class Server:
    """Runs the site's own handler like a server that writes pieces at once, unless it is full."""

    def __init__(self, door, headers):
        self.sent = []
        self.is_full = False
        body = json.dumps(DOORS[door]).encode()
        self._requests = [{"type": "http.request", "body": body}]
        self._scope = {
            "type": "http",
            "method": "POST",
            "path": door,
            "query_string": b"",
            "headers": [
                (b"host", b"localhost"),
                (b"content-type", b"application/json"),
                *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            ],
            "extensions": {EXTENSION: {"connection": self}},
        }
        self.task = asyncio.ensure_future(SiteHandler().handle(self._scope, self._receive, self._send))

    async def _receive(self):
        return self._requests.pop() if self._requests else await asyncio.Event().wait()

    async def _send(self, message):
        self.sent.append(("sent", message.get("body", b"").decode()))

    def takes_pieces(self):
        return not self.is_full

    def write_piece(self, piece):
        self.sent.append(("written", piece.decode()))

    def how(self, text):
        """How the piece with this text went out."""
        [found] = [how for how, body in self.sent if f'"{text}"' in body]
        return found


@pytest.fixture
async def served(alice, reads):
    servers = []

    async def serve(door):
        headers = await sync_to_async(bearer)(alice)
        servers.append(Server(door, headers))
        for piece in ("first", "second"):
            reads.put_nowait([piece])
            await until(lambda piece=piece: any(f'"{piece}"' in body for _, body in servers[-1].sent))
        return servers[-1]

    yield serve
    reads.put_nowait([])
    await asyncio.gather(*(server.task for server in servers))


@pytest.mark.usefixtures("models", "quiet")
@pytest.mark.parametrize("door", DOORS)
async def test_a_token_wakes_no_reader_where_the_server_writes_at_once(door, served, reads):
    server = await served(door)

    with counted_work() as given:
        for number in range(TOKENS):
            reads.put_nowait([f"token{number}"])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    naps = 2 * TOKENS

    assert len(given) - naps == TOKENS
    assert {server.how(f"token{number}") for number in range(TOKENS)} == {"written"}


@pytest.mark.usefixtures("models", "quiet")
@pytest.mark.parametrize("door", DOORS)
async def test_what_the_server_cannot_write_at_once_is_sent_in_its_order(door, served, reads):
    server = await served(door)
    pieces = [f"token{number}" for number in range(TOKENS)]

    for number, piece in enumerate(pieces):
        server.is_full = number % 5 in (1, 2)
        reads.put_nowait([piece])
        if number % 3:
            await until(lambda piece=piece: any(f'"{piece}"' in body for _, body in server.sent))
    await until(lambda: f'"{pieces[-1]}"' in server.sent[-1][1])

    assert {server.how(piece) for piece in pieces} == {"written", "sent"}
    told = "".join(body for _, body in server.sent)
    assert [told.count(f'"{piece}"') for piece in pieces] == [1] * TOKENS
    places = [told.index(f'"{piece}"') for piece in pieces]
    assert places == sorted(places)


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
