"""A body that is read when somebody asks for it, and not before.

Whether the files of a form are wanted, and how many bytes of them, is known by the code that reads them; what
nobody reads is not kept anywhere.
"""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

PIECE_SECONDS = 30.0
"""How long a client may be silent in the middle of what it sends."""
BODY_SECONDS = 900.0
"""How long the whole may take; a slow client keeps a thread for as long."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class LateBody(io.RawIOBase):
    """What the server receives as a file, for a thread that is not the event loop's.

    Raises OSError where the client goes or is too slow; Django makes an UnreadablePostError of it.
    """

    def __init__(self, receive: Receive) -> None:
        self.ended = asyncio.Event()
        """Set once all of it was received, or the client has gone."""
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._deadline = self._loop.time() + BODY_SECONDS
        self._buffer = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """As files do, but never more than has arrived: `size` bytes at most, none at the end."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 16), b""))
        if not self._buffer and not self.ended.is_set():
            if threading.get_ident() == self._loop_thread:
                raise OSError("a body that is on its way is read in a thread")
            self._buffer = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def _next(self) -> bytes:
        """The next bytes; none at the end."""
        received = b""
        while not received and not self.ended.is_set():
            until = min(self._deadline, self._loop.time() + PIECE_SECONDS)
            try:
                async with asyncio.timeout_at(until):
                    message = await self._receive()
            except TimeoutError:
                self.ended.set()
                raise
            received = message.get("body", b"")
            if message["type"] == "http.disconnect":
                self.ended.set()
                raise ConnectionResetError("the client has gone")
            if not message.get("more_body", False):
                self.ended.set()
        return received
