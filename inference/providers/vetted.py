"""A transport for the SDKs' HTTP client that connects to no address outside a network.

Checking a name and then handing it to a client that looks it up anew would check one address and connect to
another: whoever owns the name may change it in between. Here the name is looked up once for each
connection, and the socket goes to the address that was checked. TLS still asks for the certificate of the
name.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

from llmsite.core.destinations import ForbiddenAddress, Network, resolve

MOST_CONNECTIONS = 1000
"""As in the SDKs' own clients; the calls at once are bounded before (limits.py)."""
MOST_IDLE_CONNECTIONS = 100
IDLE_SECONDS = 5.0


def vetted_transport(network: Network, tls: ssl.SSLContext) -> httpx2.AsyncHTTPTransport:
    """Without proxies: one would look the name up by itself."""
    transport = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False)
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=tls,
        max_connections=MOST_CONNECTIONS,
        max_keepalive_connections=MOST_IDLE_CONNECTIONS,
        keepalive_expiry=IDLE_SECONDS,
        network_backend=_VettedBackend(network),
    )
    return transport


class _VettedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, network: Network) -> None:
        self._network = network
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the form that the client asks for
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error

    async def _connect(
        self, host: str, port: int, socket_options: Iterable[Any] | None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            *others, last = await resolve(host, port, self._network)
        except ForbiddenAddress:
            raise
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        for address in others:
            try:
                return await self._backend.connect_tcp(address, port, socket_options=socket_options)
            except httpcore2.ConnectError:
                continue
        return await self._backend.connect_tcp(last, port, socket_options=socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
