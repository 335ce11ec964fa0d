"""A client that does not read is dropped, and little is kept for it meanwhile; on a real uvicorn."""

import asyncio
import socket
from contextlib import asynccontextmanager

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
