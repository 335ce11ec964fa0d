"""Django's ASGI handler without threads of its own: a request that needs none costs none.

Django sends its signals and closes each response in a thread, because receivers may use the database. Here a
request uses a thread, and a connection, only where some code of its own asked for one; then the end of the
request is told in that thread, which closes the connection. Its beginning is not told: a thread is as new as
its request, and has nothing from an older one to put away. Everything else is Django's.

A body is read before the request is answered, but no more of it than the site takes; one with files is read
by the code that wants them, so that nobody unknown makes the site write them down.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import IO, Any, cast

from asgiref.sync import SyncToAsync, sync_to_async
from django import setup
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix

from llmsite.core.event_stream import EventStream
from llmsite.core.late_body import LateBody
from llmsite.core.paths import takes_files

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class SiteHandler(ASGIHandler):
    """One request after the other from the server, each in the thread-sensitive context that Django opens."""

    def __init__(self) -> None:
        super().__init__()
        # It reads the settings, which are there only when Django is set up.
        from llmsite.core.metrics import STREAMS_OPEN

        self._streams_open = STREAMS_OPEN.labels("sse")
        self._fixed_addresses: dict[str, ResolverMatch] = {}

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """As Django's, which goes through the patterns for each request.

        What an address without parameters leads to is kept: there are only as many as such patterns.
        """
        match = self._fixed_addresses.get(request.path_info)
        if match is None:
            match = super().resolve_request(request)
            if not match.kwargs and not match.args and not hasattr(request, "urlconf"):
                self._fixed_addresses[request.path_info] = match
        request.resolver_match = match
        return match

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = LateBody(receive) if _has_files(scope) else await _read(receive)
        except RequestAborted:
            return
        with body:
            set_script_prefix(get_script_prefix(scope))
            request, refusal = self.create_request(scope, cast("IO[bytes]", body))
            if request is None:
                assert refusal is not None
                await self.send_response(refusal, send)
                refusal.close()
                return
            if isinstance(body, LateBody):
                # One that comes in chunks has no length, which Django takes for having no body.
                request.META.setdefault("CONTENT_LENGTH", "1")
            await self._answer(cast("HttpRequest", request), body, receive, send)

    async def _answer(self, request: HttpRequest, body: io.IOBase, receive: Receive, send: Send) -> None:
        """Answer until the answer is sent or the client has gone, which cancels it."""
        task = asyncio.current_task()
        assert task is not None
        watch = _Watch(task, partial(_listen_for_disconnect, body, receive))
        try:
            response = await self._respond(request, send)
        except asyncio.CancelledError:
            if _has_thread():
                await sync_to_async(signals.request_finished.send)(sender=self.__class__)
            if not watch.client_is_gone:
                raise
        else:
            watch.end()
            await _close(request, response)
        finally:
            watch.end()

    async def _respond(self, request: HttpRequest, send: Send) -> HttpResponseBase:
        response = await self.run_get_response(request)
        if isinstance(response, EventStream):
            response.outlet.open(request.scope)  # type: ignore[attr-defined]
        with suppress(asyncio.CancelledError):
            # The client has gone while it was being sent; its response is closed like any other.
            await self.send_response(response, send)
        return response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        """As Django's, but what is small goes out as it is: an answer in one piece, a stream in its own."""
        is_large = not response.streaming and len(response.content) > self.chunk_size  # type: ignore[attr-defined]
        if response.cookies or is_large or (response.streaming and not isinstance(response, EventStream)):
            await super().send_response(response, send)
            return
        # What their items() gives is looked up name by name.
        pairs = response.headers._store.values()
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        if isinstance(response, EventStream):
            with self._streams_open.track_inprogress():
                async with aclosing(aiter(response)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": response.content})  # type: ignore[attr-defined]


def _has_files(scope: Mapping[str, Any]) -> bool:
    if not takes_files(scope["path"]):
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return any(kind.lower().startswith(b"multipart/form-data") for kind in kinds)


async def _read(receive: Receive) -> io.BytesIO:
    """The body, or a beginning that is longer than any view takes. Raises RequestAborted."""
    body = io.BytesIO()
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    while body.tell() <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        body.write(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body.seek(0)
    return body


async def _listen_for_disconnect(body: io.IOBase, receive: Receive) -> None:
    """Raises RequestAborted when the client goes. What it sends beyond what was read is thrown away."""
    if isinstance(body, LateBody):
        await body.ended.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
    raise RequestAborted


class _Watch:
    """Cancels `task` when its client goes.

    It begins with the loop's next turn: an answer that waits for nothing is sent before, and nobody can have
    left meanwhile.
    """

    def __init__(self, task: "asyncio.Task[Any]", disconnect: Callable[[], Awaitable[None]]) -> None:
        self.client_is_gone = False
        self._task = task
        self._disconnect = disconnect
        self._listening: asyncio.Task[None] | None = None
        self._start = asyncio.get_running_loop().call_soon(self._begin)

    def end(self) -> None:
        self._start.cancel()
        if self._listening is not None:
            self._listening.cancel()
        if self.client_is_gone and self._task.cancelling():
            self._task.uncancel()

    def _begin(self) -> None:
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        with suppress(RequestAborted):
            await self._disconnect()
        self.client_is_gone = True
        self._task.cancel()


async def _close(request: HttpRequest, response: HttpResponseBase) -> None:
    if _has_thread():
        await sync_to_async(response.close)()
    elif response.streaming:
        response.close()
    else:
        # All that closing does beside is to tell the end, for the sake of connections that were not used.
        request.close()


def _has_thread() -> bool:
    return SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor


def get_application() -> SiteHandler:
    """As `django.core.asgi.get_asgi_application`, with this handler."""
    setup(set_prefix=False)
    return SiteHandler()
