"""uvicorn's WebSocket protocol, but a client that does not read is dropped.

uvicorn waits for such a client without an end, and a polite close waits for it too: its data has to be
sent first. So the connection is broken off.
"""

import asyncio
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SEND_SECONDS = 30.0
"""How long a client may take to make room for the next message."""


class PatientWebSocketProtocol(WebSocketsSansIOProtocol):
    """Breaks off where a message cannot be sent for `SEND_SECONDS`, or a ping stays unanswered.

    Nothing is written into a connection that is broken already.
    """

    async def send(self, message: Any) -> None:
        # uvicorn notices that a client has gone when the loop tells it, and writing into a broken connection
        # never waits: an application with much to say would keep the loop from ever doing so.
        if self.transport.is_closing():
            raise ClientDisconnected
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await super().send(message)
        except TimeoutError as error:
            self.transport.abort()
            raise ClientDisconnected from error

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()
