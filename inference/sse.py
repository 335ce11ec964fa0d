"""Server-sent events: an answer followed over HTTP, resumable by its last event's number."""

import json
from collections.abc import AsyncIterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from inference.events import Numbered, is_last
from inference.generations import follow
from inference.models import Generation
from llmsite.core.errors import InvalidInput

# A browser's EventSource uses `error` for a lost connection, so ours needs another name.
_NAMES = {"error": "failure"}
_HEARTBEAT = b": keep-alive\n\n"


def event_stream(generation: Generation, *, after: int = -1) -> StreamingHttpResponse:
    """The response that tells an answer's events behind number `after`, live to the end."""
    response = StreamingHttpResponse(_chunks(generation, after), content_type="text/event-stream")
    # `no-transform` and the next header keep proxies from gathering the pieces into one lump.
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response


def nothing_more() -> HttpResponse:
    """What tells a browser's EventSource to stop asking."""
    return HttpResponse(status=204)


async def _chunks(generation: Generation, after: int) -> AsyncIterator[bytes]:
    async for numbered in follow(generation, after=after):
        yield _HEARTBEAT if numbered is None else encode(numbered)
        if numbered is not None and is_last(numbered.event):
            return


def encode(numbered: Numbered) -> bytes:
    """One event on the wire. The data is one line: JSON escapes the line breaks of a text."""
    kind = numbered.event.type
    data = json.dumps(numbered.as_dict(), ensure_ascii=False)
    return f"id: {numbered.seq}\nevent: {_NAMES.get(kind, kind)}\ndata: {data}\n\n".encode()


def read_cursor(request: HttpRequest) -> int:
    """The number of the last event that the client has; -1 for none. Raises InvalidInput."""
    raw = request.headers.get("Last-Event-ID", "").strip()
    if not raw:
        return -1
    if not raw.isascii() or not raw.isdigit() or len(raw) > 9:
        raise InvalidInput(field="Last-Event-ID", reason="Last-Event-ID is the number of an event.")
    return int(raw)
