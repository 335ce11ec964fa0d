"""A lean HTTP/1.1 client: reads a model server's stream at little cost per token.

A general client spends several times the CPU on each piece that arrives, which would limit how many
streams one web process carries. This one does what a model server needs and no more: no pool, no
redirects, no cookies, no proxies, no compression. One connection carries one request, so closing it
is how a request is cancelled, and nothing is shared between event loops.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

import httptools

from llmsite.core import tracing
from llmsite.core.destinations import Network, resolve
from llmsite.core.logs import request_id
from llmsite.core.outlet import written_together

HIGH_WATER = 1 << 18
"""Bytes of body that may wait unread before the server is made to wait."""


class BadResponse(Exception):
    """What came back is not HTTP, or larger than allowed."""


class Response(asyncio.Protocol):
    """One response, as it arrives. `headers` has lower-case names."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._unread = 0
        self._error: Exception | None = None
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._change: asyncio.Future[None] | None = None
        self._closed = asyncio.Event()
        self._take: Callable[[bytes], bool] | None = None

    async def head(self) -> None:
        """Wait for status and headers. Raises ConnectionError where the server hangs up before."""
        while not self.status and not self._over:
            await self._next_change()
        if self._error:
            raise self._error
        if not self.status:
            raise ConnectionResetError("the server closed the connection without an answer")

    async def read(self) -> bytes:
        """The next bytes of the body; empty when it is over, announced or not. Raises BadResponse."""
        while not self._body and not self._over:
            await self._next_change()
        if not self._body:
            if self._error:
                raise self._error
            return b""
        received = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        if self._unread > HIGH_WATER and self._transport:
            self._transport.resume_reading()
        self._unread = 0
        return received

    async def pour(self, take: Callable[[bytes], bool]) -> None:
        """Give `take` the body as it comes, in the very turn of the loop in which it does.

        Ends with the body, announced or not, or as soon as `take` wants no more. Raises BadResponse, and what
        `take` raises.
        """
        self._take = take
        self._hand_on()
        while not self._over:
            await self._next_change()
        if self._error:
            raise self._error

    def _hand_on(self) -> None:
        """Give what has come to who takes it at once."""
        received, self._unread = b"".join(self._body), 0
        self._body.clear()
        try:
            take = cast("Callable[[bytes], bool]", self._take)
            wants_more = not received or written_together(take, received)
        except Exception as error:
            self._error, wants_more = error, False
        self._over = self._over or not wants_more

    async def read_json(self, *, limit: int) -> Any:
        """The whole body as JSON, or as text where it is none. Raises BadResponse over `limit` bytes."""
        body = b""
        while received := await self.read():
            body += received
            if len(body) > limit:
                raise BadResponse(f"a body of more than {limit} bytes")
        try:
            return json.loads(body)
        except ValueError:
            return body.decode(errors="replace")

    def send(self, request: bytes) -> None:
        assert self._transport
        self._transport.write(request)

    async def close(self) -> None:
        """Close the connection at once, whatever is still on its way."""
        assert self._transport
        self._transport.abort()
        await self._closed.wait()

    def _next_change(self) -> "asyncio.Future[None]":
        # One future for a wait: an asyncio.Event makes one too, and does more about it.
        self._change = self._loop.create_future()
        return self._change

    def _changed(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class.

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = self._error or BadResponse(str(error))
            self._over = True
        if self._take is not None:
            self._hand_on()
            if not self._over:
                return
        if self._unread > HIGH_WATER and self._transport:
            self._transport.pause_reading()
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._changed()
        self._closed.set()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # Anything below only announces the response.
            self.status = status

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        self._over = bool(self.status)


@asynccontextmanager
async def send(
    method: str,
    url: str,
    *,
    payload: Any = None,
    headers: Mapping[str, str] | None = None,
    connect_timeout: float,
    network: Network | None = None,
) -> AsyncIterator[Response]:
    """Send `payload` as JSON and give the response once its head is there; leaving closes the connection.

    It goes out under the id of the request that is being served, unless `headers` have another.
    Raises TimeoutError where no connection is made within `connect_timeout` seconds, another OSError
    where the address does not resolve, refuses or hangs up, BadResponse where the answer is not HTTP.
    With a `network` the connection goes to an address within it, or ForbiddenAddress is raised.
    """
    address = urlsplit(url)
    request = _encode(method, address, payload, headers or {})
    async with asyncio.timeout(connect_timeout):
        response = await _connect(address, network)
    try:
        response.send(request)
        await response.head()
        yield response
    finally:
        await response.close()


async def _connect(address: SplitResult, network: Network | None) -> Response:
    """A connection to the server. A name is looked up once: what was checked is what is connected to."""
    secure, host = address.scheme == "https", address.hostname or ""
    port = address.port or (443 if secure else 80)
    *others, last = [host] if network is None else await resolve(host, port, network)
    for one in others:
        with suppress(OSError):
            return await _open(one, port, host, secure=secure)
    return await _open(last, port, host, secure=secure)


async def _open(address: str, port: int, host: str, *, secure: bool) -> Response:
    _, response = await asyncio.get_running_loop().create_connection(
        Response, address, port, ssl=_tls() if secure else None, server_hostname=host if secure else None
    )
    return response


def _encode(method: str, address: SplitResult, payload: Any, headers: Mapping[str, str]) -> bytes:
    """The request's bytes. Raises ValueError for a header that would end its own line."""
    body = b"" if payload is None else json.dumps(payload).encode()
    lines = {
        "Host": address.netloc.rpartition("@")[2],
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **_own_id(),
        **tracing.headers(),
        **headers,
    }
    if any(set("\r\n\0") & set(value) for value in lines.values()):
        raise ValueError("a header's value must be one line")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {address.path or '/'} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def _own_id() -> dict[str, str]:
    current = request_id.get()
    return {} if current is None else {"X-Request-ID": current}


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
