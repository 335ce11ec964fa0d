"""Who opens a WebSocket, from where, how many at once, and for how long.

A browser sends the sign-in's cookie to any page that asks it to, so a handshake with a cookie
needs the Origin of our own pages, exactly. A program sends a bearer, which no browser adds by
itself; it needs no Origin, and one that it sends must be ours all the same.
"""

import asyncio
import json
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.cookie import parse_cookie

from accounts.credentials import Credential, holds_secret, presented_token, prove_for_a_while
from accounts.limits.addresses import client_address, current_network, network_of
from accounts.limits.buckets import Hit
from accounts.limits.rate_limits import Tally
from accounts.limits.slots import LEASE_SECONDS, slots
from accounts.watch import credential_watch
from llmsite.core.background import spawn
from llmsite.core.errors import NotSignedIn, RateLimited, SiteError, describe
from llmsite.core.logs import read_request_id
from llmsite.core.metrics import STREAMS_OPEN

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Any], Awaitable[None]]

SIGNED_OUT, TOO_MANY = 4401, 4429
"""Close codes: the credential ended; the user has too many sockets open."""
MOST_SOCKETS = 10
"""Open sockets of one user, over all processes."""


class SocketGate:
    """Puts `credential` into the scope, or refuses the handshake before it is accepted.

    HTTP 403 for a bad credential or a foreign Origin, 429 over a limit. An accepted socket is closed with
    4401 when its credential ends, and with 4429 at once where its user has too many.
    """

    def __init__(self, inner: App) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current_network.set(network_of(_address(scope)))
        handshake = _Handshake(scope)
        try:
            credential = await handshake.admit()
        except SiteError as refusal:
            await receive()
            await handshake.deny(send, refusal)
            return
        socket = _Socket(send, handshake.headers)
        slot = (f"sockets:{credential.user.pk}", uuid.uuid4().hex)
        if not await held_slots.take(*slot):
            await receive()
            await socket.send({"type": "websocket.accept"})
            await socket.send({"type": "websocket.close", "code": TOO_MANY})
            return
        try:
            watching = credential_watch.watching(credential, on_end=socket.end)
            with STREAMS_OPEN.labels("websocket").track_inprogress(), watching:
                await self.inner({**scope, "credential": credential}, receive, socket.send)
        finally:
            await held_slots.free(*slot)


async def count_message(scope: Scope) -> None:
    """Count one message on an open socket as the HTTP request that it stands for. Raises RateLimited."""
    credential: Credential = scope["credential"]
    await Tally().count(_by_address(scope), *credential.hits())


class _Handshake:
    """One request to open a socket; it is counted and answered like any other request."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._request_id = read_request_id(self._headers.get("x-request-id"))
        self._tally = Tally()

    async def admit(self) -> Credential:
        """The caller. Raises RateLimited, and NotSignedIn also for a foreign Origin."""
        await self._tally.count(_by_address(self._scope))
        if holds_secret(self._scope.get("query_string", b"").decode("latin-1")):
            raise NotSignedIn
        credential = await prove_for_a_while(self._token(), in_thread=database_sync_to_async)
        await self._tally.count(*credential.hits())
        return credential

    def _token(self) -> str:
        origin, header = self._headers.get("origin"), self._headers.get("authorization")
        is_secure = self._scope.get("scheme") == "wss"
        if origin is not None and not _is_own_origin(origin, self._headers, secure=is_secure):
            raise NotSignedIn
        token = presented_token(header, parse_cookie(self._headers.get("cookie", "")))
        if token is None or (header is None and origin is None):
            raise NotSignedIn
        return token

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer to a request carries."""
        given = {"X-Request-ID": self._request_id, **self._tally.headers()}
        return [(name.lower().encode(), value.encode()) for name, value in given.items()]

    async def deny(self, send: Send, refusal: SiteError) -> None:
        """Refuse before the socket is accepted: 429 over a limit, else 403."""
        is_limit = isinstance(refusal, RateLimited)
        if "websocket.http.response" not in self._scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": TOO_MANY if is_limit else SIGNED_OUT})
            return
        public = describe(refusal)
        headers = [*self.headers, (b"content-type", b"application/json")]
        if public.retry_after is not None:
            headers.append((b"retry-after", str(math.ceil(public.retry_after)).encode()))
        body = json.dumps(public.as_dict(self._request_id)).encode()
        status = 429 if is_limit else 403
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})


def _by_address(scope: Scope) -> Hit:
    return Hit(f"address:{client_address(_address(scope))}", settings.RATE_LIMIT_ADDRESS)


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _is_own_origin(origin: str, headers: dict[str, str], *, secure: bool) -> bool:
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    request = HttpRequest()
    request.META = {"HTTP_HOST": headers.get("host", "")}
    try:
        host = request.get_host()
    except DisallowedHost:
        return False
    return origin == f"{'https' if secure else 'http'}://{host}"


class _Socket:
    """The sending side of one socket, which ends when its credential does."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self._closed = False

    async def send(self, message: dict[str, Any]) -> None:
        # An answer that is being told when the socket closes has nobody left to hear it.
        if self._closed:
            return
        if message["type"] == "websocket.accept":
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        self._closed = message["type"] == "websocket.close"
        await self._send(message)

    def end(self) -> None:
        spawn(self.send({"type": "websocket.close", "code": SIGNED_OUT}))


class HeldSlots:
    """The slots of this process's sockets, kept by one round trip for all of them."""

    def __init__(self) -> None:
        self._held: set[tuple[str, str]] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, key: str, member: str) -> bool:
        if not await slots.take(key, member, MOST_SOCKETS):
            return False
        self._held.add((key, member))
        if self._renewing is None or self._renewing.done():
            self._renewing = spawn(self._keep_renewing())
        return True

    async def free(self, key: str, member: str) -> None:
        self._held.discard((key, member))
        await slots.free(key, member)

    async def _keep_renewing(self) -> None:
        while self._held:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await slots.renew(self._held)


held_slots = HeldSlots()
