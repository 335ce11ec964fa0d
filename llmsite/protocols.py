"""uvicorn's protocols, but a client that does not read, or hardly sends, is dropped; little is kept for it.

uvicorn waits without an end for a client that does not read, and a polite close waits for it too: what was
written has to be sent first, and the kernel goes on trying even where the process has closed. So the
connection is reset, which throws away what was not delivered.

It waits as long for a request that has begun. Its head has to be whole after `HEAD_SECONDS`; a body may take
any time, as long as it comes on: an upload over a slow line is no attack.
"""

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from llmsite.core.outlet import EXTENSION

SEND_SECONDS = 30.0
"""How long a client may take to make room for what comes next."""
HEAD_SECONDS = 10.0
"""How long the head of a request may take, from the connection on or from the first byte of a later one."""
BODY_SECONDS = 30.0
BODY_BYTES = 1 << 14
"""The least of a body that has to come in any `BODY_SECONDS`, unless we were not reading."""
KERNEL_BUFFER_BYTES = 1 << 18
"""What the kernel keeps for one connection, and as much again for its own books.

Left to itself it takes megabytes.
"""

_RESET = struct.pack("ii", 1, 0)


class Impatient(asyncio.Protocol):
    """Resets the connection `SEND_SECONDS` after its buffer has become full, unless it empties before."""

    transport: asyncio.Transport
    _patience: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience = asyncio.get_running_loop().call_later(SEND_SECONDS, self.break_off)

    def resume_writing(self) -> None:
        self._lose_patience()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose_patience()
        super().connection_lost(exc)

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def break_off(self) -> None:
        """End the connection at once; nothing that waits to be sent is kept any longer."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class Hurry(Impatient, HttpToolsProtocol):
    """Ends connections whose request does not come on. A request that comes whole costs a comparison."""

    _due: asyncio.TimerHandle | None = None
    """When what is being read has to be there."""
    _is_body = False
    """Whether that is a body."""
    _came = 0
    """Bytes of it since the last look."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._due = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            self._await_head()
        elif cycle.more_body:
            self._await_body(len(data))
        elif cycle.response_complete:  # What came is no request, such as empty lines.
            self._await_head()
        else:
            self._lose_hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose_hurry()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        """Of a request that has begun, or of the next one: uvicorn's own patience ends with any byte."""
        if self.transport.get_protocol() is not self:  # It has become a WebSocket.
            self._lose_hurry()
        elif self._due is None or self._is_body:
            self._lose_hurry()
            self._due = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _await_body(self, came: int) -> None:
        self._came += came
        if self._due is None or not self._is_body:
            self._lose_hurry()
            self._is_body = True
            self._due = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _look_at_body(self) -> None:
        if self._came < BODY_BYTES and not self.flow.read_paused:
            self.break_off()
            return
        self._came = 0
        self._due = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _lose_hurry(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
            self._is_body = False
            self._came = 0


class ImpatientHttpProtocol(Hurry):
    """HTTP, event streams included: their pieces need no task to be written (`llmsite.core.outlet`)."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"connection": self}}

    def takes_pieces(self) -> bool:
        """See `llmsite.core.outlet.Connection`."""
        cycle = self.cycle
        is_under_way = cycle.response_started and not (cycle.response_complete or cycle.disconnected)
        return is_under_way and bool(cycle.chunked_encoding) and not self.flow.write_paused

    def write_piece(self, piece: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))


class ImpatientWebSocketProtocol(Impatient, WebSocketsSansIOProtocol):
    """WebSockets; they are also reset where a ping stays unanswered.

    Nothing is written into a connection that is broken already.
    """

    async def send(self, message: Any) -> None:
        # uvicorn notices that a client has gone when the loop tells it, and writing into a broken connection
        # never waits: an application with much to say would keep the loop from ever doing so.
        if self.transport.is_closing():
            raise ClientDisconnected
        await super().send(message)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.break_off()
