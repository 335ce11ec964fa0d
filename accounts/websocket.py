"""Who opens a WebSocket, and from where.

A browser sends the sign-in's cookie to any page that asks it to, so a handshake with a cookie
needs the Origin of our own pages, exactly. A program sends a bearer, which no browser adds by
itself; it needs no Origin, and one that it sends must be ours all the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.cookie import parse_cookie

from accounts.credentials import Credential, from_bearer
from accounts.tokens import read_access
from llmsite.core.errors import NotSignedIn

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class CredentialMiddleware:
    """Puts `credential` into the scope, or refuses the handshake (HTTP 403) before it is accepted."""

    def __init__(self, inner: App) -> None:
        self.inner = inner

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            credential = await sync_to_async(_authenticate)(headers, secure=scope.get("scheme") == "wss")
        except NotSignedIn:
            await receive()
            await send({"type": "websocket.close", "code": 4401})
            return
        await self.inner({**scope, "credential": credential}, receive, send)


def _authenticate(headers: dict[str, str], *, secure: bool) -> Credential:
    origin = headers.get("origin")
    if origin is not None and not _is_own_origin(origin, headers, secure=secure):
        raise NotSignedIn
    if "authorization" in headers:
        return from_bearer(headers["authorization"])
    cookie = parse_cookie(headers.get("cookie", "")).get(settings.ACCESS_COOKIE)
    if cookie is None or origin is None:
        raise NotSignedIn
    session = read_access(cookie)
    return Credential(session.user, session=session)


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
