"""Readers that never read, come back elsewhere, or vanish: on real connections."""

import asyncio
import http.client
import json
import socket
import struct
from contextlib import ExitStack, asynccontextmanager

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from redis import Redis

from accounts.watch import credential_watch
from accounts.websocket import MOST_SOCKETS, held_slots
from conftest import bearer
from inference.models import Generation, Status
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.waiting import until
from llmsite import protocols
from llmsite.management.commands import serve_web
from llmsite.testing.http import PromptServer
from llmsite.testing.site import Site

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.flows,
    pytest.mark.usefixtures("settled"),
]

DEAF = 50
FLOOD = ("x" * 20_000,) * 10
"""An answer that is longer than all buffers on its way."""


@asynccontextmanager
async def served():
    """The site on uvicorn in this process, as `serve_web` serves it; the server, and its port."""
    listener = serve_web._listen("127.0.0.1", 0)
    config = serve_web._config()
    config.lifespan = "off"  # The sweeps are no part of this.
    server = PromptServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


async def connected(port, request, *, receive_buffer=None):
    """A client that has sent its request."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setblocking(False)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, request)
    return client


def head(first_line, port, **headers):
    lines = [first_line, f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def question(port, headers, prompt):
    body = json.dumps({"prompt": prompt, "model": "scripted", "max_tokens": 7000}).encode()
    sized = {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
    return head("POST /api/predict/stream HTTP/1.1", port, **sized) + body


def handshake(port, headers):
    asked = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    return head("GET /ws/chat/ HTTP/1.1", port, **asked, **headers)


def is_reset(client):
    return bool(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


async def test_readers_that_never_read_are_dropped_and_their_answers_end(alice, models, monkeypatch):
    monkeypatch.setattr(protocols, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(serve_web, "KERNEL_BUFFER_BYTES", 1 << 14)
    headers = await sync_to_async(bearer)(alice)
    scripted.play(*[Script(pieces=FLOOD)] * DEAF)
    async with served() as (server, port):
        deaf = [
            await connected(port, question(port, headers, f"Flood {number}"), receive_buffer=4096)
            for number in range(DEAF)
        ]

        await until(lambda: not server.server_state.connections and len(scripted.calls) == DEAF, seconds=30)

        assert all(is_reset(client) for client in deaf)
        await until(lambda: not server.server_state.tasks and not credential_watch._open)
        finished = Generation.objects.filter(status=Status.FINISHED)
        await until(lambda: finished.count() == DEAF)
        # Who reads is served as ever.
        scripted.play(Script(pieces=("Still", " here")))
        text = await read_all(await connected(port, question(port, headers, "And now?")))
        assert b'"Still"' in text
        assert b'"finished"' in text
        for client in deaf:
            client.close()


async def read_all(client):
    """Everything up to the end of the chunked body."""
    loop, received = asyncio.get_running_loop(), b""
    while not received.endswith(b"0\r\n\r\n"):
        data = await loop.sock_recv(client, 1 << 16)
        assert data
        received += data
    client.close()
    return received


async def test_sockets_that_vanish_at_once_leave_nothing(alice, bob, charlie, models):
    people = [await sync_to_async(bearer)(person) for person in (alice, bob, charlie)]
    async with served() as (server, port):
        for _ in range(2):  # The second time shows that their places are free at once.
            clients = [
                await connected(port, handshake(port, headers))
                for headers in people
                for _ in range(MOST_SOCKETS)
            ]
            heads = [await asyncio.get_running_loop().sock_recv(client, 4096) for client in clients]
            assert {answer.split(b"\r\n", 1)[0] for answer in heads} == {b"HTTP/1.1 101 Switching Protocols"}
            await until(lambda: len(held_slots._held) == len(people) * MOST_SOCKETS)
            assert len(credential_watch._open) == len(clients)

            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()

            await until(lambda: not server.server_state.connections and not server.server_state.tasks)
            assert not held_slots._held
            assert not credential_watch._open


def events_of(site, headers, path, *, body=None, most=None):
    """The events of a stream, at most `most` of them; then the connection is closed."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    data = None if body is None else json.dumps(body)
    connection.request(
        "GET" if body is None else "POST", path, data, {**headers, "Content-Type": "application/json"}
    )
    response = connection.getresponse()
    assert response.status == 200, response.read()
    events = []
    for line in response:
        if line.startswith(b"data: "):
            events.append(json.loads(line[6:]))
        if len(events) == most:
            break
    response.close()
    connection.close()
    return events


def test_a_reader_goes_on_in_another_process(alice, models):
    headers = bearer(alice)
    with ExitStack() as stack:
        first, second = (stack.enter_context(Site()) for _ in range(2))
        seen = events_of(
            first, headers, "/api/predict/stream", body={"prompt": "Go", "model": "slow"}, most=4
        )
        path = f"/api/generations/{seen[0]['id']}/events"

        more = events_of(second, {**headers, "Last-Event-ID": "3"}, path, most=3)
        rest = events_of(first, {**headers, "Last-Event-ID": "6"}, path)
        forget_copies()
        whole = events_of(second, headers, path)

    told = [*seen, *more, *rest]
    assert [event["seq"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told if event["type"] != "delta"] == ["started", "finished"]
    assert whole == told
    row = Generation.objects.select_related("message").get()
    assert "".join(event["text"] for event in told if event["type"] == "delta") == row.message.content


def forget_copies():
    """As after their time: what the answer was is in its row alone."""
    if settings.REDIS_URL:
        with Redis.from_url(settings.REDIS_URL) as redis:
            keys = list(redis.scan_iter("llmsite:events:*"))
            assert keys
            redis.delete(*keys)
