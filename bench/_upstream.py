"""An OpenAI-compatible server that answers at once, or streams tokens that carry when they were sent.

Run: python -m bench._upstream PORT. A streamed answer never ends by itself; `POST /end` ends all of them.
But a question with `at once` in it gets the whole answer as one token, and one with `flood` a megabyte as
fast as it is taken. Raw asyncio, so that it is never what a benchmark measures.
"""

import asyncio
import json
import socket
import sys
import time
from typing import cast

import uvloop

TOKENS_PER_SECOND = 50
ANSWER = "A repeated question has the same answer. " * 16
_FLOOD_TOKEN, _FLOOD_TOKENS = "x" * 1024, 1000
_BEAT = 0.001
_SLOTS = round(1 / TOKENS_PER_SECOND / _BEAT)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def chunk(choice: str, rest: str = "") -> bytes:
    choices = f"[{choice}]"
    data = f'{{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":{choices}{rest}}}'
    return f"data: {data}\n\n".encode()


_FIRST = chunk('{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}')
_TOKEN = chunk('{"index":0,"delta":{"content":"@%d;"},"finish_reason":null}')
_USAGE = ',"usage":{"prompt_tokens":9,"completion_tokens":99,"total_tokens":108}'
_END = chunk('{"index":0,"delta":{},"finish_reason":"stop"}') + chunk("", _USAGE) + b"data: [DONE]\n\n"
COMPLETION = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 128, "total_tokens": 137},
    }
).encode()


class Streams:
    """All running streams, spread evenly over the time between two tokens, as many users' are."""

    def __init__(self) -> None:
        self.slots: list[set[asyncio.Transport]] = [set() for _ in range(_SLOTS)]
        self._opened = 0

    def add(self, transport: asyncio.Transport) -> None:
        self._opened += 1
        self.slots[self._opened * 7 % _SLOTS].add(transport)

    def drop(self, transport: asyncio.Transport) -> None:
        for slot in self.slots:
            slot.discard(transport)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        beat, due = 0, loop.time()
        while True:
            for transport in self.slots[beat % _SLOTS]:
                transport.write(framed(_TOKEN % time.monotonic_ns()))
            beat, due = beat + 1, due + _BEAT
            await asyncio.sleep(max(0.0, due - loop.time()))

    def end(self) -> None:
        for slot in self.slots:
            for transport in slot:
                transport.write(framed(_END) + b"0\r\n\r\n")
            slot.clear()


streams = Streams()


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Protocol(asyncio.Protocol):
    """One request after another on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.received = cast("asyncio.Transport", transport), b""

    def connection_lost(self, error: Exception | None) -> None:
        streams.drop(self.transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < length_of(head):
            return
        self.received = b""
        path = head.split(b" ", 2)[1]
        if path == b"/end":
            streams.end()
            self.answer(b"{}")
        elif not path.endswith(b"/chat/completions"):
            self.answer(b'{"error":{"message":"no such path"}}', b"404 Not Found")
        elif json.loads(body).get("stream"):
            self.transport.write(_HEAD + framed(_FIRST))
            if b"at once" in body:
                self.transport.write(framed(whole()) + framed(_END) + b"0\r\n\r\n")
            elif b"flood" in body:
                self.transport.write(
                    framed(whole(_FLOOD_TOKEN)) * _FLOOD_TOKENS + framed(_END) + b"0\r\n\r\n"
                )
            else:
                streams.add(self.transport)
        else:
            self.answer(COMPLETION)

    def answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)


def whole(text: str = ANSWER) -> bytes:
    """A text as one token."""
    return chunk(f'{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}')


def length_of(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0] or 0)


async def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    server = await asyncio.get_running_loop().create_server(Protocol, sock=listener)
    async with server:
        await streams.run()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
