"""The socket door: what it refuses, and that it says so."""

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings

from accounts.models import ApiKey, Session
from accounts.tokens import sign_in
from conftest import bearer
from inference import generations
from inference.providers import scripted
from inference.tests.doors import connect, joined, until_end
from llmsite.asgi import application

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]


async def handshake(headers):
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    socket = WebsocketCommunicator(application, "/ws/chat/", headers=encoded)
    connected, _ = await socket.connect()
    if connected:
        await socket.disconnect()
    return connected


async def cookie_of(user):
    pair = await sync_to_async(sign_in)(user)
    return f"{settings.ACCESS_COOKIE}={pair.access}"


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("http://testserver", True),
        ("http://testserver:81", False),
        ("https://testserver", False),
        ("http://evil.example", False),
        ("null", False),
        (None, False),
    ],
)
async def test_a_cookie_needs_exactly_our_origin(origin, accepted, alice, models):
    headers = {"Host": "testserver", "Cookie": await cookie_of(alice)}

    assert await handshake(headers | ({"Origin": origin} if origin else {})) is accepted


@pytest.mark.parametrize(("origin", "accepted"), [(None, True), ("http://evil.example", False)])
async def test_a_bearer_needs_no_origin_but_no_foreign_one_either(origin, accepted, alice, models):
    headers = {"Host": "testserver", **await sync_to_async(bearer)(alice)}

    assert await handshake(headers | ({"Origin": origin} if origin else {})) is accepted


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}, {"Cookie": "x=y"}])
async def test_nobody_else_comes_in(headers, models):
    assert not await handshake({"Host": "testserver", "Origin": "http://testserver", **headers})


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not json", "invalid_value"),
        ("[]", "invalid_value"),
        ('{"type": "dance"}', "invalid_value"),
        ('{"type": "ask"}', "invalid_value"),
        ('{"type": "ask", "prompt": "x", "api_base": "http://evil"}', "invalid_value"),
        ('{"type": "ask", "prompt": "x", "model": "nobody"}', "model_not_found"),
        ('{"type": "stop", "id": "1"}', "invalid_value"),
        ('{"type": "stop", "id": "00000000-0000-0000-0000-000000000001"}', "not_found"),
        ('{"type": "resume", "id": "00000000-0000-0000-0000-000000000001", "after": "x"}', "invalid_value"),
    ],
)
async def test_a_bad_message_is_an_error_and_the_socket_stays(message, code, alice, models):
    socket = await connect(alice)

    await socket.send_to(text_data=message)
    answer = await socket.receive_json_from()
    await socket.send_json_to({"type": "ask", "prompt": "Still there?", "model": "echo"})
    events = await until_end(socket)
    await socket.disconnect()

    assert (answer["type"], answer["code"]) == ("error", code)
    assert answer["message"]
    assert joined(events) == "Still there?"


@pytest.mark.parametrize("rows", [ApiKey, Session])
async def test_an_ended_sign_in_is_refused_at_the_next_message(rows, alice, models):
    if rows is ApiKey:
        socket = await connect(alice)
    else:
        headers = [(b"host", b"testserver"), (b"origin", b"http://testserver")]
        headers.append((b"cookie", (await cookie_of(alice)).encode()))
        socket = WebsocketCommunicator(application, "/ws/chat/", headers=headers)
        await socket.connect()
    await rows.objects.all().adelete()

    await socket.send_json_to({"type": "ask", "prompt": "Hello?"})
    answer = await socket.receive_json_from()
    await socket.disconnect()

    assert answer["code"] == "not_authenticated"
    assert not scripted.calls


async def test_a_failure_while_following_is_told(alice, models, monkeypatch):
    async def broken(generation, *, after):
        raise RuntimeError("no")
        yield

    monkeypatch.setattr(generations, "follow", broken)
    socket = await connect(alice)

    await socket.send_json_to({"type": "ask", "prompt": "Hello?", "model": "echo"})
    answer = await socket.receive_json_from()
    await socket.disconnect()

    assert (answer["type"], answer["code"]) == ("error", "internal_error")
    assert answer["id"]
