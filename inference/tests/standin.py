"""A stand-in for both vendors: a small real HTTP server that speaks their wire formats.

It answers `POST /v1/chat/completions` (OpenAI, vLLM) and `POST /v1/messages` (Anthropic), streamed or
not, and `/v1/models`, `/health` and `/tokenize`. How a call goes is scripted, one `Answer` a call:

    with StandIn() as server:
        server.script(Answer(pieces=("Hel", "lo")), Answer(status=429, headers={"retry-after": "2"}))
        …  # calls to server.url
        assert server.calls[-1].client_left.wait(1)

Calls without a script get `Answer()`, or what `choose` says where they come in no order. The server runs
in a thread of its own, so sync and async tests use it alike. `invoice()` is what a vendor would bill: a
test of a ledger compares itself with it.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from inference.tests.wire import FORMATS, WireFormat, words_of

End = Literal["done", "no_end_mark", "fin", "rst", "hang"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one call goes."""

    pieces: tuple[str, ...] = ("Hello", ",", " world", "!")
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """The JSON (or the bytes) to send in place of a stream; an error's default is the vendor's shape."""
    delay: float = 0.0
    """Seconds before the first byte, the head's included."""
    head_start: float = 0.0
    """Seconds between the head and the first piece."""
    gap: float = 0.0
    """Seconds before each piece but the first."""
    error: Any = None
    """The JSON of an error event that ends the stream after the pieces."""
    stop_reason: str | None = None
    """The vendor's own word; None stands for its usual one."""
    usage: tuple[int, int] | None = None
    """Input and output tokens; None counts the prompt's words, and one token for a piece."""
    reports_usage: bool = True
    end: End = "done"
    """After the pieces: the proper end, the body's end without the format's end mark, a closed or a
    reset connection, or nothing at all."""
    drip: bool = False
    """Whether each byte is sent by itself."""
    raw: bytes | None = None
    """The exact body of the stream, for what no vendor would send."""


@dataclass(kw_only=True)
class Call:
    """One request that arrived, and what became of it. Header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    """The number of the connection it came on."""
    billed: tuple[int, int] = (0, 0)
    """Input and output tokens that were worked on, told to the client or not."""
    client_left: threading.Event = field(default_factory=threading.Event)
    """Set when the client closes the connection before its answer is whole."""
    answered: threading.Event = field(default_factory=threading.Event)
    """Set when the answer went out, as far as the script goes."""


class StandIn:
    """The server, between `with` and its end. Its address is `url`."""

    tokenize: Literal["per_message", "vllm", "absent"] = "per_message"
    """What `/tokenize` does: as the site's own model process, as vLLM, or not there."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.connections = 0
        self.choose: Callable[[Any], Answer] = lambda body: Answer()
        """The answer to a call without a script, by its body."""
        self._script: deque[Answer] = deque()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def __enter__(self) -> "StandIn":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def script(self, *answers: Answer) -> None:
        """Queue `answers` for the next completions."""
        self._script.extend(answers)

    def reset(self) -> None:
        """Forget scripts and calls."""
        self._script.clear()
        self.calls.clear()
        self.choose = lambda body: Answer()
        self.tokenize = "per_message"

    def wait_for_calls(self, count: int, *, seconds: float = 5.0) -> bool:
        """Block until `count` calls have arrived; False where they do not within `seconds`."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.calls) >= count, seconds)

    def invoice(self) -> tuple[int, int]:
        """Input and output tokens of all calls, those that were cut or left included."""
        billed = [call.billed for call in self.calls]
        return sum(tokens for tokens, _ in billed), sum(tokens for _, tokens in billed)

    # The thread's side.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(_Connection(self, self.connections, reader, writer).run())
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    # The connections' side.

    def arrived(self, call: Call) -> None:
        with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()

    def next_answer(self, body: Any) -> Answer:
        return self._script.popleft() if self._script else self.choose(body)


class _Connection:
    """One connection, and the calls that come on it one after another."""

    def __init__(
        self, server: StandIn, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._number = number
        self._reader = reader
        self._writer = writer
        self._received = b""

    async def run(self) -> None:
        try:
            while call := await self._next_call():
                self._server.arrived(call)
                if not await self._answer_unless_left(call):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writer.transport.abort()

    async def _next_call(self) -> Call | None:
        while b"\r\n\r\n" not in self._received:
            if not (data := await self._reader.read(65536)):
                return None
            self._received += data
        head, _, rest = self._received.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            rest += await self._reader.readexactly(length - len(rest))
        body, self._received = rest[:length], rest[length:]
        parsed = json.loads(body) if body else None
        return Call(method=method, path=path, headers=headers, body=parsed, connection=self._number)

    async def _answer_unless_left(self, call: Call) -> bool:
        """Answer `call`, and watch meanwhile for the client to leave. False where the connection ended."""
        answer = asyncio.create_task(self._answer(call))
        ahead = asyncio.create_task(self._read_ahead())
        try:
            await asyncio.wait({answer, ahead}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and not ahead.result():
                call.client_left.set()
                return False
            goes_on = await answer
            call.answered.set()
            return goes_on
        except ConnectionError:
            call.client_left.set()
            return False
        finally:
            for task in (answer, ahead):
                task.cancel()
            await asyncio.gather(answer, ahead, return_exceptions=True)

    async def _read_ahead(self) -> bool:
        """Keep what comes next, which may be another call. False where the client left."""
        data = await self._reader.read(65536)
        self._received += data
        return bool(data)

    async def _answer(self, call: Call) -> bool:
        if wire := FORMATS.get(call.path):
            return await self._complete(call, wire, self._server.next_answer(call.body))
        status, body = self._look_up(call)
        await self._send_json(status, body, {})
        return True

    def _look_up(self, call: Call) -> tuple[int, Any]:
        if call.path == "/health":
            return 200, {"status": "ok"}
        if call.path == "/v1/models":
            model = {"id": "stand-in", "object": "model", "owned_by": "tests", "max_model_len": 4096}
            return 200, {"object": "list", "data": [model]}
        if call.path == "/tokenize" and self._server.tokenize != "absent":
            return 200, self._tokenized(call.body)
        return 404, {"error": {"message": f"no {call.path} here", "type": "not_found_error"}}

    def _tokenized(self, body: dict[str, Any]) -> dict[str, Any]:
        counts = [words_of([message]) + 3 for message in body["messages"]]
        sizes = {"count": sum(counts), "max_model_len": 4096, "tokens": list(range(sum(counts)))}
        return {**sizes, "per_message": counts} if self._server.tokenize == "per_message" else sizes

    async def _complete(self, call: Call, wire: WireFormat, answer: Answer) -> bool:
        await asyncio.sleep(answer.delay)
        if answer.status != 200 or answer.body is not None:
            body = wire.error(answer.status) if answer.body is None else answer.body
            await self._send_json(answer.status, body, answer.headers)
            return True
        usage = answer.usage or (words_of(call.body["messages"]), len(answer.pieces))
        stop_reason = answer.stop_reason or wire.stop_reason
        if not call.body.get("stream"):
            call.billed = usage
            await self._send_json(200, wire.whole("".join(answer.pieces), stop_reason, usage), answer.headers)
            return True
        await self._send_head(200, {"content-type": "text/event-stream", **answer.headers}, chunked=True)
        async for event in self._events(call, wire, answer, usage):
            await self._send(b"%x\r\n%s\r\n" % (len(event), event), drip=answer.drip)
        return await self._end(answer)

    async def _events(
        self, call: Call, wire: WireFormat, answer: Answer, usage: tuple[int, int]
    ) -> AsyncIterator[bytes]:
        await asyncio.sleep(answer.head_start)
        if answer.raw is not None:
            yield answer.raw
            return
        told = usage if answer.reports_usage else None
        call.billed = (usage[0], 0)
        if answer.pieces or answer.error is None:
            yield wire.begin(told)
        for number, piece in enumerate(answer.pieces, start=1):
            await asyncio.sleep(answer.gap if number > 1 else 0)
            call.billed = (usage[0], number)
            yield wire.piece(piece)
        if answer.error is not None:
            yield wire.error_event(answer.error)
        elif answer.end == "done":
            call.billed = usage
            yield wire.end(answer.stop_reason or wire.stop_reason, told)

    async def _end(self, answer: Answer) -> bool:
        """End the response as scripted; whether the connection serves another call."""
        if answer.end == "hang":
            await asyncio.get_running_loop().create_future()
        if answer.end in ("fin", "rst"):
            # What was sent has to be read before the connection breaks: a reset may overtake it.
            await asyncio.sleep(0.05)
            self._break(reset=answer.end == "rst")
            return False
        await self._send(b"0\r\n\r\n", drip=answer.drip)
        return True

    def _break(self, *, reset: bool) -> None:
        if reset:
            connection: socket.socket = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _send_json(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sized = {"content-type": "application/json", "content-length": str(len(content)), **headers}
        await self._send_head(status, sized)
        await self._send(content)

    async def _send_head(self, status: int, headers: Mapping[str, str], *, chunked: bool = False) -> None:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Overloaded"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        if chunked:
            lines.append("transfer-encoding: chunked")
        await self._send("\r\n".join([*lines, "", ""]).encode())

    async def _send(self, data: bytes, *, drip: bool = False) -> None:
        for part in (data[at : at + 1] for at in range(len(data))) if drip else (data,):
            self._writer.write(part)
            await self._writer.drain()
            # Another turn of both loops, so that the next byte is a segment of its own.
            await asyncio.sleep(0)
