"""A client that leaves: the provider is left at once, the end is recorded, and nothing runs on."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async

from accounts.credentials import Credential
from conftest import bearer
from inference import together
from inference.ask import Ask
from inference.models import ChatModelConfig, Generation, Status
from inference.tests.serving import serving
from inference.tests.standin import Answer
from inference.tests.v1.calling import CHAT, MESSAGES
from inference.tests.waiting import until
from llmsite.core.errors import Interrupted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "vendors")]

GOES_ON = Answer(pieces=("word ",) * 1000, gap=0.02)
SAYS_NOTHING = Answer(head_start=60)
OURS = {"SideBySide._pump", "_complete", "_complete_all"}
"""What makes answers, by the names of its tasks' functions."""


async def connect(url, user, path, body):
    """A connection on which a question was sent."""
    address = urlsplit(url)
    headers = await sync_to_async(bearer)(user)
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: {headers['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return reader, writer


async def test_a_choice_that_somebody_else_cancels_ends_the_wait_for_it(alice, monkeypatch):
    async def cancelled(ask, tell):
        raise asyncio.CancelledError

    monkeypatch.setattr(together, "stream", cancelled)
    credential = Credential(user=alice)
    answers = together.SideBySide([Ask(user=alice, door="test", prompt="Go on")], credential)

    with pytest.raises(Interrupted):
        async with asyncio.timeout(10):
            await answers.begin()


def names_of(tasks):
    return {task.get_coro().__qualname__ for task in tasks}


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    ("answer", "stream", "choices"),
    [
        (GOES_ON, True, 1),
        (GOES_ON, True, 3),
        (GOES_ON, False, 1),
        (GOES_ON, False, 3),
        (SAYS_NOTHING, True, 1),
        (SAYS_NOTHING, False, 1),
    ],
    ids=["stream", "three streams", "whole", "three whole", "before the stream", "before the whole"],
)
async def test_leaving(alice, standin, settings, path, answer, stream, choices):
    settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = "sk-test", f"{standin.url}/v1"
    await ChatModelConfig.objects.filter(alias="gpt").aupdate(context_window=100_000)
    choices = choices if path == CHAT else 1
    standin.script(*[answer] * choices)
    turns = [{"role": "user", "content": "Go on"}]
    body = {"model": "gpt", "max_tokens": 2000, "messages": turns, "stream": stream}
    before = asyncio.all_tasks()
    async with serving() as url:
        reader, writer = await connect(url, alice, path, body | ({"n": choices} if choices > 1 else {}))
        assert await asyncio.to_thread(standin.wait_for_calls, choices)
        if stream and answer is GOES_ON:
            await reader.readuntil(b"word ")
        else:
            await asyncio.sleep(0.1)
        writer.transport.abort()
        for call in standin.calls:
            assert await asyncio.to_thread(call.client_left.wait, 10)
        await until(lambda: not Generation.objects.running().exists())
    assert {row.status async for row in Generation.objects.all()} == {Status.STOPPED}
    assert await Generation.objects.acount() == choices
    async with asyncio.timeout(5):
        while names_of(asyncio.all_tasks() - before) & OURS:  # noqa: ASYNC110 - tasks tell nobody of their end
            await asyncio.sleep(0.01)
