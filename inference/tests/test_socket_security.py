"""Sockets: who may open one, how many, how often they may speak, and that they end with their sign-in."""

import asyncio
import socket
from base64 import b64encode
from contextlib import ExitStack
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import AsyncClient
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_for_real

from accounts import watch
from accounts.models import ApiKey, Session
from accounts.tests.two_processes import cookies
from accounts.tokens import sign_in
from accounts.websocket import MOST_SOCKETS, SIGNED_OUT, TOO_MANY
from conftest import bearer
from inference.live import live_answers
from inference.models import Generation
from inference.providers import scripted
from inference.tests.doors import connect
from inference.tests.waiting import until
from llmsite.asgi import application
from llmsite.core.rates import Rate
from llmsite.testing.site import Site

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

OWN = {"Host": "testserver", "Origin": "http://testserver"}


def socket_to(path="/ws/chat/", **headers):
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return WebsocketCommunicator(application, path, headers=encoded)


async def opens(path="/ws/chat/", **headers):
    socket = socket_to(path, **headers)
    connected, _ = await socket.connect()
    if connected:
        await socket.disconnect()
    return connected


async def cookie_socket(user):
    pair = await sync_to_async(sign_in)(user)
    socket = socket_to(**OWN, Cookie=f"{settings.ACCESS_COOKIE}={pair.access}")
    assert (await socket.connect())[0]
    return socket


async def close_code(socket):
    """The code with which the server closes the socket; what it still says before is passed over."""
    while (message := await socket.receive_output(timeout=5))["type"] != "websocket.close":
        pass
    return message["code"]


# --- The handshake ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["http://testserver:81", "https://testserver", "http://evil.example", "null", ""]
)
async def test_a_foreign_origin_is_refused_whatever_the_credential(origin, alice):
    pair, key = await sync_to_async(sign_in)(alice), await sync_to_async(bearer)(alice)
    good = [
        {"Cookie": f"{settings.ACCESS_COOKIE}={pair.access}"},
        key,
        {"Authorization": f"Bearer {pair.access}"},
    ]

    for headers in good:
        assert await opens(**OWN, **headers)
        assert not await opens(**OWN | {"Origin": origin}, **headers)


async def test_a_trusted_origin_is_taken_and_a_foreign_host_is_not(alice, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://front.example"]
    pair = await sync_to_async(sign_in)(alice)
    cookie = {"Cookie": f"{settings.ACCESS_COOKIE}={pair.access}"}

    assert await opens(**OWN | {"Origin": "https://front.example"}, **cookie)
    assert not await opens(Host="evil.example", Origin="http://evil.example", **cookie)


async def test_only_a_good_token_opens_a_socket(alice):
    pair, headers = await sync_to_async(sign_in)(alice), await sync_to_async(bearer)(alice)
    key = headers["Authorization"].removeprefix("Bearer ")
    session = await Session.objects.aget()
    expired = AccessToken.for_user(alice)
    expired["sid"] = str(session.pk)
    expired.set_exp(lifetime=-timedelta(seconds=1))

    for token in (str(expired), pair.refresh, "nonsense", pair.access[:-4] + "AAAA", key[:-1] + "!", ""):
        assert not await opens(**OWN, Cookie=f"{settings.ACCESS_COOKIE}={token}")
        assert not await opens(**OWN, Authorization=f"Bearer {token}")
    assert not await opens(**OWN, Cookie=f"{settings.ACCESS_COOKIE}={key}")
    assert not await opens(
        **OWN, Cookie=f"{settings.ACCESS_COOKIE}={pair.access}", Authorization="Bearer nonsense"
    )


async def test_a_token_in_the_address_opens_nothing(alice):
    pair, headers = await sync_to_async(sign_in)(alice), await sync_to_async(bearer)(alice)
    key = headers["Authorization"].removeprefix("Bearer ")

    for query in (f"token={pair.access}", f"access_token={pair.access}", f"api_key={key}", f"x={key}"):
        assert not await opens(f"/ws/chat/?{query}", **OWN)
        # Not beside a good one either: addresses are kept in logs and histories.
        assert not await opens(f"/ws/chat/?{query}", **OWN, **headers)
    assert await opens("/ws/chat/?lang=es", **OWN, **headers)


# --- While it is open -------------------------------------------------------------------------------


@pytest.fixture
def quick_watch(monkeypatch):
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)


@pytest.fixture
def sleeping_watch(monkeypatch):
    """Whatever is noticed is noticed at the next message."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 3600)


async def test_a_token_that_expires_closes_its_socket(alice, models, quick_watch, monkeypatch):
    socket, other = await cookie_socket(alice), await connect(alice)
    after = timezone.now() + settings.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"]

    monkeypatch.setattr(watch, "timezone", SimpleNamespace(now=lambda: after))

    assert await close_code(socket) == SIGNED_OUT
    # A key that never expires keeps its own.
    await other.send_json_to({"type": "ask", "prompt": "Still there?", "model": "echo"})
    assert (await other.receive_json_from())["type"] == "started"
    await other.disconnect()


async def end_session(user):
    await Session.objects.aupdate(revoked_at=timezone.now())


async def disable(user):
    await type(user).objects.filter(pk=user.pk).aupdate(is_active=False)


async def end_key(user):
    await ApiKey.objects.aupdate(revoked_at=timezone.now())


async def forget_user(user):
    await type(user).objects.filter(pk=user.pk).adelete()


ENDS = [(cookie_socket, end_session), (cookie_socket, disable), (connect, end_key), (connect, disable)]
ENDS += [(cookie_socket, forget_user), (connect, forget_user)]


@pytest.mark.parametrize(("opened", "end"), ENDS)
async def test_a_silent_socket_is_closed_when_its_credential_ends(opened, end, alice, bob, quick_watch):
    """Ended by another process: this one is not told."""
    socket, other = await opened(alice), await connect(bob)

    await end(alice)

    assert await close_code(socket) == SIGNED_OUT
    if end is not end_key:
        assert await other.receive_nothing(0.2)
    await other.disconnect()


@pytest.mark.parametrize(("opened", "end"), ENDS)
async def test_the_very_next_message_is_refused(opened, end, alice, models, sleeping_watch):
    socket = await opened(alice)
    await end(alice)

    await socket.send_json_to({"type": "ask", "prompt": "Hello?", "model": "scripted"})

    assert (await socket.receive_json_from())["code"] == "not_authenticated"
    assert await close_code(socket) == SIGNED_OUT
    assert not scripted.calls


async def test_a_key_of_another_scope_asks_nothing(alice, models):
    headers = await sync_to_async(bearer)(alice, scopes=["metrics"])
    socket = socket_to(**OWN, **headers)
    await socket.connect()

    for message in (
        {"type": "ask", "prompt": "Hello?"},
        {"type": "stop", "id": "1"},
        {"type": "resume", "id": "1"},
    ):
        await socket.send_json_to(message)
        assert (await socket.receive_json_from())["code"] == "permission_denied"
    await socket.disconnect()
    assert not scripted.calls


# --- How many, and how often ------------------------------------------------------------------------


async def test_a_user_has_so_many_sockets_and_others_have_their_own(alice, bob, models):
    sockets = [await connect(alice) for _ in range(MOST_SOCKETS)]

    for extra in (await connect(alice), await cookie_socket(alice)):
        assert await close_code(extra) == TOO_MANY
    await (await connect(bob)).disconnect()

    await sockets.pop().disconnect()
    again = await connect(alice)
    await again.send_json_to({"type": "ask", "prompt": "Hello?", "model": "echo"})
    assert (await again.receive_json_from())["type"] == "started"
    for one in (*sockets, again):
        await one.disconnect()


def test_sockets_are_counted_over_all_processes(alice, models):
    with ExitStack() as stack:
        # Without Redis there is one process.
        sites = [stack.enter_context(Site()) for _ in range(2 if settings.REDIS_URL else 1)]
        headers = cookies(sign_in(alice))

        def open_socket(turn):
            site = sites[turn % len(sites)]
            address, own = site.url.replace("http", "ws") + "/ws/chat/", {"Origin": site.url, **headers}
            return stack.enter_context(connect_for_real(address, additional_headers=own, compression=None))

        sockets = [open_socket(turn) for turn in range(MOST_SOCKETS)]
        for turn in range(2):
            with pytest.raises(ConnectionClosed) as closed:
                open_socket(turn).recv(timeout=10)
            assert closed.value.rcvd.code == TOO_MANY
        for socket in sockets:
            assert socket.ping().wait(10)


async def test_messages_count_as_the_requests_that_they_stand_for(alice, models, settings):
    settings.RATE_LIMIT = Rate(4, 60)
    headers = await sync_to_async(bearer)(alice)
    socket = await connect(alice)  # 1

    for _ in range(2):  # 2, 3
        await socket.send_json_to({"type": "stop", "id": "1"})
        assert (await socket.receive_json_from())["code"] == "invalid_value"
    assert (await AsyncClient().get("/api/models", headers=headers)).status_code == 200  # 4
    for message in ({"type": "ask", "prompt": "Hello?"}, "not even JSON"):
        await socket.send_json_to(message)
        refused = await socket.receive_json_from()
        assert (refused["code"], refused["type"]) == ("rate_limited", "error")
        assert 0 < refused["retry_after"] <= 60

    assert (await AsyncClient().get("/api/models", headers=headers)).status_code == 429
    assert not scripted.calls
    await socket.disconnect()


async def test_a_handshake_over_the_limit_is_refused_before_it_is_accepted(alice, settings):
    headers = await sync_to_async(bearer)(alice)
    settings.RATE_LIMIT = Rate(1, 60)

    assert [await opens(**OWN, **headers) for _ in range(2)] == [True, False]

    settings.RATE_LIMIT, settings.RATE_LIMIT_ADDRESS = Rate(100, 60), Rate(1, 60)
    assert not await opens(**OWN)
    assert not await opens(**OWN, **headers)


class TestHandshakes:
    """A request to open a socket is answered like any other."""

    def shake(self, site, **headers):
        request = (
            b"GET /ws/chat/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        )
        request += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b64encode(b"0" * 16) + b"\r\n"
        for name, value in headers.items():
            request += f"{name}: {value}\r\n".encode()
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
            connection.sendall(request + b"\r\n")
            head = connection.makefile("rb")
            status = int(head.readline().split()[1])
            lines = iter(head.readline, b"\r\n")
            return status, dict(line.decode().strip().lower().split(": ", 1) for line in lines)

    def test_every_answer_names_itself_and_what_is_left(self, alice):
        headers = bearer(alice)
        with Site(RATE_LIMIT="2/m") as site:
            answers = [self.shake(site), *(self.shake(site, **headers) for _ in range(3))]

        assert [status for status, _ in answers] == [403, 101, 101, 429]
        for _, given in answers:
            assert given["x-request-id"]
            assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= given.keys()
        assert 0 < int(answers[-1][1]["retry-after"]) <= 60


@pytest.mark.parametrize("ended", [lambda: ApiKey.objects.all().revoke()], ids=["key revoked"])
async def test_a_plain_answer_stops_when_its_credential_ends(ended, alice, models, monkeypatch):
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)
    headers = await sync_to_async(bearer)(alice)
    asked = asyncio.ensure_future(
        AsyncClient().post(
            "/api/predict",
            {"prompt": "hi", "model": "endless"},
            content_type="application/json",
            headers=headers,
        )
    )
    await until(lambda: live_answers)

    await sync_to_async(ended)()

    assert (await asked).status_code == 401
    await until(lambda: not live_answers)
    assert (await Generation.objects.aget()).status == "stopped"
