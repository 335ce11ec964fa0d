"""Holds many idle WebSockets, answers their pings, and lets all of them vanish at once.

Run: python -m bench._sockets. The first line of the standard input is a JSON of port, path, keys, count
and at_once (handshakes under way together); it prints a JSON of opened, refused and seconds. A second line,
of any text, makes all connections end with a reset.
"""

import asyncio
import json
import socket
import struct
import sys
import time
from typing import Any, cast

import uvloop

from bench._wire import handshake

_PING, _CLOSE = 0x9, 0x8
_RESET = struct.pack("ii", 1, 0)


class Idle(asyncio.Protocol):
    """One client's end of a WebSocket that says nothing by itself."""

    def __init__(self, request: bytes, opened: "asyncio.Future[str]") -> None:
        self._request, self._opened, self._received = request, opened, b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if not self._opened.done():
            self._opened.set_result("the connection was lost")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._opened.done():
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            self._received = rest
            status = head.split(b"\r\n", 1)[0]
            self._opened.set_result("" if b" 101 " in status else status.decode())
        while len(self._received) >= 2 and len(self._received) >= 2 + self._received[1]:
            self._take(self._received[0] & 0x0F, self._received[2 : 2 + self._received[1]])
            self._received = self._received[2 + self._received[1] :]

    def _take(self, kind: int, payload: bytes) -> None:
        """One short frame; the server sends no other to a client that asks nothing."""
        if kind == _PING:
            # A mask of zeros leaves the payload as it is.
            self.transport.write(bytes([0x8A, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)
        elif kind == _CLOSE:
            self.closed = True


async def opened(options: dict[str, Any]) -> tuple[list[Idle], dict[str, Any]]:
    loop, places = asyncio.get_running_loop(), asyncio.Semaphore(options["at_once"])

    async def open_one(number: int) -> tuple[Idle, str]:
        request = handshake(options["port"], options["path"], options["keys"][number % len(options["keys"])])
        async with places:
            answered: asyncio.Future[str] = loop.create_future()
            _, made = await loop.create_connection(
                lambda: Idle(request, answered), "127.0.0.1", options["port"]
            )
            return made, await answered

    began = time.perf_counter()
    sockets = await asyncio.gather(*(open_one(number) for number in range(options["count"])))
    seconds = time.perf_counter() - began
    await asyncio.sleep(0.5)  # A user with too many is told right after the handshake.
    refusals = [refusal or "closed" for made, refusal in sockets if refusal or made.closed]
    result = {
        "opened": options["count"] - len(refusals),
        "refused": sorted(set(refusals)),
        "seconds": seconds,
    }
    return [made for made, _ in sockets], result


async def main() -> None:
    loop = asyncio.get_running_loop()
    sockets, result = await opened(json.loads(sys.stdin.readline()))
    print(json.dumps(result), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    alive = sum(not one.closed for one in sockets)
    for one in sockets:
        connection: socket.socket = one.transport.get_extra_info("socket")
        if not one.transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.transport.abort()
    await asyncio.sleep(0.1)
    print(json.dumps({"alive": alive}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
