"""Reads many streams at once and says how old each token was when it came.

Run: python -m bench._readers, with a JSON of port, requests (base64), seconds and at_once (streams that are
being opened at the same time) on the standard input. Prints JSON: tokens, p50 and p99 in
milliseconds, streams that were open, and what was refused. Measures only while all streams are open.
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

_TOKEN = re.compile(rb"@(\d+);")
_OPEN_SECONDS = 60.0


class Reading:
    """What all streams together have shown."""

    def __init__(self) -> None:
        self.ages = array("q")
        self.measuring = False
        self.live = 0
        self.first_refusal = ""
        self._last = time.monotonic() + _OPEN_SECONDS

    def may_wait(self) -> bool:
        """Whether the streams that are not open yet can still become so."""
        return not self.first_refusal and time.monotonic() < self._last


class Stream(asyncio.Protocol):
    """One request and the endless answer to it."""

    def __init__(self, request: bytes, reading: Reading) -> None:
        self._request, self._reading = request, reading
        self._rest, self._is_accepted, self._is_live = b"", False, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        data = self._rest + data
        end = data.rfind(b";") + 1
        self._rest = data[end:][-200:]
        sent = _TOKEN.findall(data, 0, end)
        if sent and not self._is_live:
            self._is_live = True
            self._reading.live += 1
        elif not self._is_accepted and not data.startswith(b"HTTP/1.1 200"):
            self._reading.first_refusal = self._reading.first_refusal or told(data)
        self._is_accepted = True
        if self._reading.measuring:
            self._reading.ages.extend(now - int(moment) for moment in sent)


async def main(options: dict[str, Any]) -> dict[str, Any]:
    loop, reading = asyncio.get_running_loop(), Reading()
    transports = []
    for request in options["requests"]:
        made = Stream(base64.b64decode(request), reading)
        transport, _ = await loop.create_connection(lambda made=made: made, "127.0.0.1", options["port"])
        transports.append(transport)
        await until_live(reading, len(transports) - options["at_once"] + 1)
    await until_live(reading, len(transports))
    await asyncio.sleep(1)
    print("measuring", flush=True)
    reading.measuring = True
    await asyncio.sleep(options["seconds"])
    reading.measuring = False
    print("measured", flush=True)
    result = summary(reading)
    for transport in transports:
        transport.abort()
    return result


async def until_live(reading: Reading, count: int) -> None:
    while reading.live < count and reading.may_wait():  # noqa: ASYNC110 - streams are opened a few times a second
        await asyncio.sleep(0.005)


def summary(reading: Reading) -> dict[str, Any]:
    ages = sorted(reading.ages)
    at = [ages[int(len(ages) * share)] / 1e6 if ages else None for share in (0.5, 0.99)]
    refusal = reading.first_refusal
    return {"tokens": len(ages), "p50": at[0], "p99": at[1], "live": reading.live, "refusal": refusal}


def told(refusal: bytes) -> str:
    """The status and the beginning of the body of a response."""
    head, _, body = refusal.partition(b"\r\n\r\n")
    status, _, _ = head.partition(b"\r\n")
    return f"{status.decode()} {body[:200].decode(errors='replace')}"


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.load(sys.stdin)))))
