"""Pieces of a stream on their way to its reader without the reader's task (docs/decisions/0014)."""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

EXTENSION = "llmsite.outlet"
"""The extension of ASGI by which a server writes pieces at once: `{"connection": …}`, see `Connection`.

A server's `send` has to be awaited by the task of the request, which has to be woken for it: for a token that
is most of the work. A server without the extension is sent every piece by the task.
"""


class Connection(Protocol):
    """What a server offers for the answer that it is sending."""

    def takes_pieces(self) -> bool:
        """Whether it would send a piece now, without a wait."""
        ...

    def write_piece(self, piece: bytes) -> None:
        """Send a piece, as `send` would with `more_body`."""
        ...


class Outlet:
    """Where pieces of a stream can go at once, while its task waits for the next and has sent all before."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._held: list[bytes] = []

    def open(self, scope: dict[str, Any]) -> None:
        """Use what the server of `scope` offers, if it does."""
        self._connection = (scope.get("extensions") or {}).get(EXTENSION, {}).get("connection")

    def write(self, piece: bytes) -> bool:
        """False where the task of the stream has to send the piece."""
        if self._connection is None or not self._connection.takes_pieces():
            return False
        outlets = getattr(_gathering, "outlets", None)
        if outlets is None:
            self._connection.write_piece(piece)
        else:
            if not self._held:
                outlets.append(self)
            self._held.append(piece)
        return True

    def flush(self) -> None:
        held, self._held = self._held, []
        if self._connection is not None:
            self._connection.write_piece(held[0] if len(held) == 1 else b"".join(held))


_gathering = threading.local()


def written_together(work: Callable[[T], R], argument: T) -> R:
    """What `work` comes to; all pieces that it puts into one outlet are one write, at its end.

    A process that is late reads several tokens at once, and is not to write each by itself.
    """
    outlets: list[Outlet] = []
    _gathering.outlets = outlets
    try:
        return work(argument)
    finally:
        _gathering.outlets = None
        for outlet in outlets:
            outlet.flush()
