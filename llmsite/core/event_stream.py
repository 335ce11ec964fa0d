"""The response that carries server-sent events."""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from django.http import StreamingHttpResponse

WRITE = "llmsite.write"
"""The extension of ASGI by which a piece is written at once: `write(piece)` says whether it could be.

A server's `send` has to be awaited by the task of the request, which has to be woken for it: for a token that
is most of the work (docs/decisions/0014). A server without it is sent every piece by the task.
"""


class Outlet:
    """Where pieces of a stream can go at once, while its task waits for the next and has sent all before."""

    def __init__(self) -> None:
        self._write: Callable[[bytes], bool] | None = None

    def open(self, scope: dict[str, Any]) -> None:
        """Use what the server of `scope` offers, if it does."""
        self._write = (scope.get("extensions") or {}).get(WRITE, {}).get("write")

    def write(self, piece: bytes) -> bool:
        """False where the task of the stream has to send the piece."""
        return self._write is not None and self._write(piece)


class EventStream(StreamingHttpResponse):
    """A stream whose chunks are small, and bytes as they come.

    Django's own passes each through three more generators (see also `llmsite.handler`). Whoever makes the
    chunks may write some of them into `outlet` instead.
    """

    def __init__(self, chunks: AsyncIterable[bytes], outlet: Outlet) -> None:
        super().__init__(chunks, content_type="text/event-stream")
        # `no-transform` and the next header keep proxies from gathering the pieces into one lump.
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"
        self.outlet = outlet
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._chunks)
