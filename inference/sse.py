"""Server-sent events: an answer followed over HTTP, resumable by its last event's number."""

import time
from collections.abc import AsyncGenerator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from accounts.credentials import Credential
from accounts.watch import credential_watch
from inference.events import Numbered, is_last
from inference.generations import follow_bursts
from inference.models import Generation
from llmsite.core.errors import InvalidInput
from llmsite.core.event_stream import EventStream
from llmsite.core.outlet import Outlet

# A browser's EventSource uses `error` for a lost connection, so ours needs another name.
_NAMES = {"error": "failure"}
_HEARTBEAT = b": keep-alive\n\n"
_SIGNED_OUT = b": the sign-in has ended\n\n"
HEARTBEAT_SECONDS = 15.0


def event_stream(generation: Generation, credential: Credential, *, after: int = -1) -> StreamingHttpResponse:
    """The response that tells an answer's events behind number `after`, live to the end.

    It breaks off when `credential` ends: a reader with a new one goes on from its last event.
    """
    outlet = Outlet()
    return EventStream(_chunks(generation, credential, after, outlet), outlet)


def nothing_more() -> HttpResponse:
    """What tells a browser's EventSource to stop asking."""
    return HttpResponse(status=204)


async def _chunks(
    generation: Generation, credential: Credential, after: int, outlet: Outlet
) -> AsyncGenerator[bytes, None]:
    last_sent = time.monotonic()

    def at_once(numbered: Numbered) -> bool:
        nonlocal last_sent
        if watched.ended or not outlet.write(encode(numbered)):
            return False
        last_sent = time.monotonic()
        return True

    with credential_watch.watching(credential) as watched:
        async for ready in follow_bursts(generation, after=after, at_once=at_once):
            if watched.ended:
                yield _SIGNED_OUT
                return
            if ready:
                yield encode(ready[0]) if len(ready) == 1 else b"".join(map(encode, ready))
                if is_last(ready[-1].event):
                    return
            elif time.monotonic() - last_sent >= HEARTBEAT_SECONDS:
                yield _HEARTBEAT
            else:
                continue
            last_sent = time.monotonic()


def encode(numbered: Numbered) -> bytes:
    """One event on the wire."""
    kind = numbered.event.type
    return f"id: {numbered.seq}\nevent: {_NAMES.get(kind, kind)}\ndata: {numbered.as_json()}\n\n".encode()


def read_cursor(request: HttpRequest) -> int:
    """The number of the last event that the client has; -1 for none. Raises InvalidInput."""
    raw = request.headers.get("Last-Event-ID", "").strip()
    if not raw:
        return -1
    if not raw.isascii() or not raw.isdigit() or len(raw) > 9:
        raise InvalidInput(field="Last-Event-ID", reason="Last-Event-ID is the number of an event.")
    return int(raw)
