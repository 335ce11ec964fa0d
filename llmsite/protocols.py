"""uvicorn's protocols, but a client that does not read is dropped, and little is kept for it meanwhile.

uvicorn waits for such a client without an end, and a polite close waits for it too: what was written has to
be sent first, and the kernel goes on trying even where the process has closed. So the connection is reset,
which throws away what was not delivered.
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


class ImpatientHttpProtocol(Impatient, HttpToolsProtocol):
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
