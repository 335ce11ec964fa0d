"""A client that does not read, or hardly sends, is dropped, and little is kept for it; on a real uvicorn."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn

from inference.tests.waiting import until
from llmsite import protocols
from llmsite.management.commands.serve_web import _listen
from llmsite.protocols import ImpatientHttpProtocol, ImpatientWebSocketProtocol
from llmsite.testing.http import PromptServer

MESSAGE = "x" * 60_000
MOST_BUFFERED = 1 << 20

REQUESTS = {
    "websocket": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}
doors = pytest.mark.parametrize("door", REQUESTS)


class Chatterbox:
    """An application that sends for ever, until it is told that nobody is there."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = 0

    async def __call__(self, scope, receive, send) -> None:
        try:
            if scope["type"] == "http":
                await self.stream(receive, send)
            else:
                await self.talk(receive, send)
        finally:
            self.ended += 1

    async def talk(self, receive, send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": MESSAGE})
            self.sent += 1

    async def stream(self, receive, send) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": MESSAGE.encode(), "more_body": True})
            self.sent += 1
            await asyncio.sleep(0)  # Nothing else lets the loop notice that the client has gone.


class Noted:
    """Keeps its transports and the most that was ever buffered in one, for the test to look at."""

    transports: list = []
    most_buffered = 0

    def connection_made(self, transport):
        super().connection_made(transport)
        Noted.transports.append(transport)

    def pause_writing(self):
        Noted.most_buffered = max(Noted.most_buffered, self.transport.get_write_buffer_size())
        super().pause_writing()


class NotedHttp(Noted, ImpatientHttpProtocol):
    pass


class NotedWebSocket(Noted, ImpatientWebSocketProtocol):
    pass


@asynccontextmanager
async def served(app, **options):
    Noted.transports.clear()
    Noted.most_buffered = 0
    listener = _listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=NotedHttp, ws=NotedWebSocket, lifespan="off", log_config=None, **options
    )
    server = PromptServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


async def ask(port, door):
    """A client whose answer has begun, as a stream of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUESTS[door])
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def ask_deaf(port, door):
    """A client that has asked, and reads nothing."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, REQUESTS[door])
    return client


@doors
async def test_clients_that_never_read_are_dropped_and_others_stay(door, monkeypatch):
    monkeypatch.setattr(protocols, "SEND_SECONDS", 0.3)
    app = Chatterbox()
    async with served(app) as port:
        deaf = [await ask_deaf(port, door) for _ in range(50)]
        reader, writer = await ask(port, door)
        reading = asyncio.ensure_future(read_on(reader))

        await until(lambda: app.ended == len(deaf))

        assert 0 < Noted.most_buffered <= MOST_BUFFERED
        assert not reading.done()
        reading.cancel()
        writer.transport.abort()
        for client in deaf:
            # A reset: what was not delivered is gone in the kernel too.
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            client.close()


async def read_on(reader):
    while await reader.read(1 << 16):
        pass


@doors
async def test_a_client_that_reads_stays(door, monkeypatch):
    monkeypatch.setattr(protocols, "SEND_SECONDS", 0.3)
    app = Chatterbox()
    async with served(app) as port:
        reader, writer = await ask(port, door)
        deadline = asyncio.get_running_loop().time() + 0.6
        while asyncio.get_running_loop().time() < deadline:
            assert await reader.read(1 << 16)

        assert not app.ended
        assert Noted.most_buffered <= MOST_BUFFERED
        writer.transport.abort()
        await until(lambda: app.ended)


async def test_a_client_that_does_not_answer_a_ping_is_reset():
    app = Chatterbox()
    async with served(app, ws_ping_interval=0.1, ws_ping_timeout=0.2) as port:
        deaf = await ask_deaf(port, "websocket")

        await until(lambda: app.ended)

        await until(lambda: deaf.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        deaf.close()


async def test_the_kernel_keeps_little_for_a_connection():
    """What it keeps comes on top of what the process keeps for a client that does not read."""
    listener = _listen("127.0.0.1", 0)
    client = socket.create_connection(listener.getsockname())
    connection, _ = listener.accept()
    with listener, client, connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= MOST_BUFFERED // 2


def test_it_waits_as_long_as_a_slow_line_may_take():
    assert protocols.SEND_SECONDS == 30


# --- Clients that hardly send ----------------------------------------------------------------------------

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
SLOW = {"head": b"", "body": b"\r\n"}
"""What comes before the byte now and then."""


class Reader:
    """An application that reads a request to its end, and then says so."""

    def __init__(self) -> None:
        self.bodies: list[int] = []
        self.left = 0

    async def __call__(self, scope, receive, send) -> None:
        got = 0
        while (message := await receive())["type"] == "http.request":
            got += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        if message["type"] == "http.disconnect":
            self.left += 1
            return
        self.bodies.append(got)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(protocols, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(protocols, "BODY_SECONDS", 0.3)


async def drip(writer):
    """A byte at a time, for as long as somebody takes it."""
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)


async def ended(reader):
    """Returns when the other side has ended the connection."""
    with suppress(ConnectionError):
        assert await reader.read() == b""


async def exchange(reader, writer, request):
    writer.write(request)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("part", SLOW)
async def test_five_hundred_slow_clients_are_dropped_and_others_answered(part, monkeypatch):
    # The clients have to come far enough, however busy the machine is.
    monkeypatch.setattr(protocols, f"{part.upper()}_SECONDS", 0.3)
    app = Reader()
    async with served(app) as port:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(500)]
        for _, writer in slow:
            writer.write(HEAD + SLOW[part])
        dripping = [asyncio.create_task(drip(writer)) for _, writer in slow[:20]]
        quick = await asyncio.open_connection("127.0.0.1", port)
        await exchange(*quick, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        async with asyncio.timeout(20):
            await asyncio.gather(*(ended(reader) for reader, _ in slow))

        # Nothing waits for them any more.
        await until(lambda: app.left == (500 if part == "body" else 0))
        assert app.bodies == [0]
        for writer in [*(writer for _, writer in slow), quick[1]]:
            writer.transport.abort()
        await asyncio.gather(*dripping)


async def test_who_connects_and_says_nothing_is_dropped(hurried):
    async with served(Reader()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ended(reader)
        writer.close()


async def test_a_later_request_is_awaited_no_longer(hurried):
    """uvicorn would wait for ever for what follows the first byte."""
    async with served(Reader()) as port:
        for begun in (b"GET", b"\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await exchange(reader, writer, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.write(begun)
            await ended(reader)
            writer.close()


async def test_a_body_that_comes_on_may_take_longer(hurried, monkeypatch):
    monkeypatch.setattr(protocols, "BODY_BYTES", 1000)
    monkeypatch.setattr(protocols, "BODY_SECONDS", 0.6)
    app = Reader()
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\n")
        for _ in range(10):
            writer.write(b"x" * 10_000)
            await asyncio.sleep(0.08)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        assert app.bodies == [100_000]
        writer.close()


async def test_a_body_that_we_do_not_read_may_stand_still(hurried):
    """An application that is slow makes the client wait: that is not the client's doing."""
    go_on, app = asyncio.Event(), Reader()

    async def slow(scope, receive, send):
        await go_on.wait()
        await app(scope, receive, send)

    body = b"x" * 1_000_000
    async with served(slow) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(1)  # More than two looks at the body.
        go_on.set()
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        assert app.bodies == [len(body)]
        writer.close()


async def test_a_request_that_is_whole_may_be_answered_late(hurried):
    """The time of the answer is not the client's; nor is that of a WebSocket."""
    app = Chatterbox()
    async with served(app) as port:
        streams = [await ask(port, door) for door in REQUESTS]
        reading = [asyncio.ensure_future(read_on(reader)) for reader, _ in streams]
        await asyncio.sleep(0.5)
        assert not app.ended
        for task in reading:
            task.cancel()
        for _, writer in streams:
            writer.transport.abort()
        await until(lambda: app.ended == 2)


def test_it_waits_for_a_request_as_long_as_it_says():
    assert (protocols.HEAD_SECONDS, protocols.BODY_SECONDS) == (10, 30)
