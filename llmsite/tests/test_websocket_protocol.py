"""A client that does not read is dropped, and little is kept for it meanwhile; on a real uvicorn."""

import asyncio
import socket
from contextlib import asynccontextmanager

import uvicorn

from inference.tests.waiting import until
from llmsite import websocket_protocol
from llmsite.websocket_protocol import PatientWebSocketProtocol

MESSAGE = "x" * 60_000
MOST_BUFFERED = 1 << 20

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Chatterbox:
    """An application that sends for ever, until it is told that nobody is there."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = False

    async def __call__(self, scope, receive, send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "text": MESSAGE})
                self.sent += 1
        finally:
            self.ended = True


class Noted(PatientWebSocketProtocol):
    """Keeps its transports and the most that was ever buffered in one, for the test to look at."""

    transports: list = []
    most_buffered = 0

    def connection_made(self, transport):
        super().connection_made(transport)
        self.transports.append(transport)

    async def send(self, message):
        Noted.most_buffered = max(Noted.most_buffered, self.transport.get_write_buffer_size())
        await super().send(message)


@asynccontextmanager
async def served(app):
    Noted.transports.clear()
    Noted.most_buffered = 0
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws=Noted, lifespan="off", log_config=None, ws_per_message_deflate=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


async def open_socket(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_client_that_never_reads_is_dropped(monkeypatch):
    monkeypatch.setattr(websocket_protocol, "SEND_SECONDS", 0.3)
    app = Chatterbox()
    async with served(app) as port:
        _, writer = await open_socket(port)
        writer.transport.pause_reading()

        await until(lambda: app.ended and Noted.transports[0].is_closing())

        assert app.sent > 0
        assert 0 < Noted.most_buffered <= MOST_BUFFERED
        await until(lambda: Noted.transports[0].get_write_buffer_size() == 0)
        writer.transport.abort()


async def test_a_client_that_reads_stays(monkeypatch):
    monkeypatch.setattr(websocket_protocol, "SEND_SECONDS", 0.3)
    app = Chatterbox()
    async with served(app) as port:
        reader, writer = await open_socket(port)
        deadline = asyncio.get_running_loop().time() + 0.6
        while asyncio.get_running_loop().time() < deadline:
            assert await reader.read(1 << 16)

        assert not app.ended
        assert Noted.most_buffered <= MOST_BUFFERED
        writer.transport.abort()
        await until(lambda: app.ended)


def test_it_waits_as_long_as_a_slow_line_may_take():
    assert websocket_protocol.SEND_SECONDS == 30
