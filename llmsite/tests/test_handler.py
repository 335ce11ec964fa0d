"""The end of a request that is not answered to its end."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.core.signals import request_finished

from llmsite.handler import SiteHandler

SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [(b"host", b"localhost")],
}


@pytest.fixture
def ends():
    """How often the end of a request was told, which closes the connection of its thread."""
    told = []

    def note(**_signal):
        told.append(1)

    request_finished.connect(note, sender=SiteHandler)
    yield told
    request_finished.disconnect(note, sender=SiteHandler)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_whoever_ends_it_the_connection_of_its_thread_is_closed(who, ends, monkeypatch):
    busy, gone = asyncio.Event(), asyncio.Event()

    async def respond(_handler, _request, _send):
        await sync_to_async(lambda: None)()
        busy.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SiteHandler, "_respond", respond)
    messages = [{"type": "http.request", "body": b""}]

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(SiteHandler()(SCOPE, receive, None))
    await busy.wait()
    gone.set() if who == "client" else task.cancel()

    [result] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError) == (who == "server")
    assert ends == [1]
