"""Django's ASGI handler without threads of its own: a request that needs none costs none.

Django sends its signals and closes each response in a thread, because receivers may use the database. Here a
request uses a thread, and a connection, only where some code of its own asked for one; then the end of the
request is told in that thread, which closes the connection. Its beginning is not told: a thread is as new as
its request, and has nothing from an older one to put away. Everything else is Django's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
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
                await _close(refusal)
                return
            await self._answer(cast("HttpRequest", request), receive, send)

    async def _answer(self, request: HttpRequest, receive: Receive, send: Send) -> None:
        """Answer until the answer is sent or the client has gone, which cancels it."""
        work = asyncio.create_task(self._respond(request, send))
        # An answer that waits for nothing is sent within this one turn of the loop: nobody can leave before.
        await asyncio.sleep(0)
        if not work.done():
            await self._watch(work, receive)
        try:
            response = await work
        except asyncio.CancelledError:
            await _in_its_thread(signals.request_finished.send)(sender=self.__class__)
        else:
            await _close(response)

    async def _watch(self, work: "asyncio.Task[HttpResponseBase]", receive: Receive) -> None:
        """Wait for the end of `work`, or cancel it when the client goes."""
        gone = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            with suppress(asyncio.CancelledError, RequestAborted):
                await gone

    async def _respond(self, request: HttpRequest, send: Send) -> HttpResponseBase:
        response = await self.run_get_response(request)
        with suppress(asyncio.CancelledError):
            # The client has gone while it was being sent; its response is closed like any other.
            await self.send_response(response, send)
        return response


async def _close(response: HttpResponseBase) -> None:
    await _in_its_thread(response.close)()


def _in_its_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """`function`, called in the request's thread if it has one, else here."""
    if SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor:
        return sync_to_async(function)

    async def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def get_application() -> SiteHandler:
    """As `django.core.asgi.get_asgi_application`, with this handler."""
    setup(set_prefix=False)
    return SiteHandler()
