"""Django's ASGI handler without threads of its own: a request that needs none costs none.

Django sends its signals and closes each response in a thread, because receivers may use the database. Here a
request uses a thread, and a connection, only where some code of its own asked for one; then the end of the
request is told in that thread, which closes the connection. Its beginning is not told: a thread is as new as
its request, and has nothing from an older one to put away. Everything else is Django's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

from asgiref.sync import SyncToAsync, sync_to_async
from django import setup
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class SiteHandler(ASGIHandler):
    """One request after the other from the server, each in the thread-sensitive context that Django opens."""

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            set_script_prefix(get_script_prefix(scope))
            request, refusal = self.create_request(scope, body)
            if request is None:
                assert refusal is not None
                await self.send_response(refusal, send)
                refusal.close()
                return
            await self._answer(cast("HttpRequest", request), receive, send)

    async def _answer(self, request: HttpRequest, receive: Receive, send: Send) -> None:
        """Answer until the answer is sent or the client has gone, which cancels it."""
        task = asyncio.current_task()
        assert task is not None
        watch = _Watch(task, partial(self.listen_for_disconnect, receive))
        try:
            response = await self._respond(request, send)
        except asyncio.CancelledError:
            if not watch.client_is_gone:
                raise
            if _has_thread():
                await sync_to_async(signals.request_finished.send)(sender=self.__class__)
        else:
            watch.end()
            await _close(request, response)
        finally:
            watch.end()

    async def _respond(self, request: HttpRequest, send: Send) -> HttpResponseBase:
        response = await self.run_get_response(request)
        with suppress(asyncio.CancelledError):
            # The client has gone while it was being sent; its response is closed like any other.
            await self.send_response(response, send)
        return response


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
