"""The response that carries server-sent events."""

from collections.abc import AsyncIterable, AsyncIterator

from django.http import StreamingHttpResponse


class EventStream(StreamingHttpResponse):
    """A stream whose chunks are small, and bytes as they come.

    Django's own passes each through three more generators (see also `llmsite.handler`).
    """

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        super().__init__(chunks, content_type="text/event-stream")
        # `no-transform` and the next header keep proxies from gathering the pieces into one lump.
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._chunks)
