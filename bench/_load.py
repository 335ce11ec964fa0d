"""Sends one request over and over, each connection waiting for its answer, and times the answers.

Run: python -m bench._load, with a JSON of port, request (base64), clients, seconds and marker (a regular
expression that each answer must match) on the standard input. Prints JSON: answers a second, p50 and p95
in milliseconds, how many answers were not as wanted, and the first of those.
"""

import asyncio
import base64
import json
import re
import sys
import time
from array import array
from typing import Any, cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Run:
    """What all clients share."""

    def __init__(self, request: bytes, marker: bytes) -> None:
        self.request = request
        self.marker = re.compile(marker)
        self.times = array("d")
        self.wrong = 0
        self.first_wrong = b""
        self.over = False
        self.lost = 0

    def took(self, answer: bytes, seconds: float) -> None:
        self.times.append(seconds)
        if not answer.startswith(b"HTTP/1.1 200") or not self.marker.search(answer):
            self.wrong += 1
            self.first_wrong = self.first_wrong or answer


class Client(asyncio.Protocol):
    """One connection that is kept."""

    def __init__(self, run: Run) -> None:
        self._run, self._received, self._missing = run, b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost += not self._run.over

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, head + 2) if head > 0 else None
        if length is None or len(self._received) < head + 4 + int(length[1]):
            return
        self._run.took(self._received, time.perf_counter() - self._began)
        self._received = b""
        if not self._run.over:
            self._ask()


async def main(options: dict[str, Any]) -> dict[str, Any]:
    run = Run(base64.b64decode(options["request"]), options["marker"].encode())
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Client(run), "127.0.0.1", options["port"])
        for _ in range(options["clients"])
    ]
    await asyncio.sleep(options["seconds"])
    run.over = True
    seconds = time.perf_counter() - began
    for transport, _ in made:
        transport.abort()
    times = sorted(run.times)
    at = [times[int(len(times) * share)] * 1000 if times else None for share in (0.5, 0.95)]
    return {
        "count": len(times),
        "rate": len(times) / seconds,
        "p50": at[0],
        "p95": at[1],
        "wrong": run.wrong + run.lost,
        "first_wrong": run.first_wrong.decode(errors="replace")[:2000],
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.load(sys.stdin)))))
