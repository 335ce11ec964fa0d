"""Bytes from one socket to another, and nothing else: what the machine itself takes for a token.

Run: python -m bench._relay PORT. Each connection gets one of its own to the server on port BENCH_UPSTREAM,
and what comes on either is written to the other: one read and one write for a token in uvloop, without HTTP.
"""

import asyncio
import os
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of two connections; what comes before there is a `peer` waits for it."""

    def __init__(self) -> None:
        self.peer: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early.append(data)
        else:
            self.peer.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer is not None:
            self.peer.close()

    def join(self, peer: asyncio.Transport) -> None:
        self.peer = peer
        peer.write(b"".join(self._early))


class Client(Side):
    def __init__(self, upstream: int) -> None:
        super().__init__()
        self._upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, server = await loop.create_connection(Side, "127.0.0.1", self._upstream)
        if self.transport.is_closing():
            server.transport.close()
            return
        server.join(self.transport)
        self.join(server.transport)


async def main(port: int, upstream: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(upstream), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(os.environ["BENCH_UPSTREAM"])))
