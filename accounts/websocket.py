"""Who opens a WebSocket, from where, how many at once, and for how long.

A browser sends the sign-in's cookie to any page that asks it to, so a handshake with a cookie
needs the Origin of our own pages, exactly. A program sends a bearer, which no browser adds by
itself; it needs no Origin, and one that it sends must be ours all the same.
"""

import asyncio
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
from accounts.limits.addresses import client_address
from accounts.limits.buckets import Hit
from accounts.limits.rate_limits import rate_limiter
from accounts.limits.slots import LEASE_SECONDS, slots
from accounts.watch import credential_watch
from llmsite.core.background import spawn
from llmsite.core.errors import NotSignedIn, RateLimited

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
        try:
            credential = await _admit(scope)
        except NotSignedIn:
            await receive()
            await send({"type": "websocket.close", "code": SIGNED_OUT})
            return
        except RateLimited as refusal:
            await receive()
            await _deny(scope, send, refusal)
            return
        socket = _Socket(send)
        slot = (f"sockets:{credential.user.pk}", uuid.uuid4().hex)
        if not await held_slots.take(*slot):
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": TOO_MANY})
            return
        try:
            with credential_watch.watching(credential, on_end=socket.end):
                await self.inner({**scope, "credential": credential}, receive, socket.send)
        finally:
            await held_slots.free(*slot)


async def count_message(scope: Scope) -> None:
    """Count one message on an open socket as the HTTP request that it stands for. Raises RateLimited."""
    credential: Credential = scope["credential"]
    (await rate_limiter.hit(_by_address(scope), *credential.hits())).raise_if_refused()


async def _admit(scope: Scope) -> Credential:
    """The caller of a handshake. Raises RateLimited, and NotSignedIn also for a foreign Origin."""
    (await rate_limiter.hit(_by_address(scope))).raise_if_refused()
    if holds_secret(scope.get("query_string", b"").decode("latin-1")):
        raise NotSignedIn
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    origin, header = headers.get("origin"), headers.get("authorization")
    if origin is not None and not _is_own_origin(origin, headers, secure=scope.get("scheme") == "wss"):
        raise NotSignedIn
    token = presented_token(header, parse_cookie(headers.get("cookie", "")))
    if token is None or (header is None and origin is None):
        raise NotSignedIn
    credential = await prove_for_a_while(token, in_thread=database_sync_to_async)
    (await rate_limiter.hit(*credential.hits())).raise_if_refused()
    return credential


def _by_address(scope: Scope) -> Hit:
    address = (scope.get("client") or ("",))[0]
    return Hit(f"address:{client_address(address)}", settings.RATE_LIMIT_ADDRESS)


async def _deny(scope: Scope, send: Send, refusal: RateLimited) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": TOO_MANY})
        return
    headers = [(b"retry-after", str(math.ceil(refusal.retry_after or 0)).encode())]
    await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b""})


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

    def __init__(self, send: Send) -> None:
        self._send = send
        self._closed = False

    async def send(self, message: dict[str, Any]) -> None:
        # An answer that is being told when the socket closes has nobody left to hear it.
        if self._closed:
            return
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
