"""The response that carries server-sent events."""

from collections.abc import AsyncIterable, AsyncIterator

from django.http import StreamingHttpResponse

from llmsite.core.outlet import Outlet


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
