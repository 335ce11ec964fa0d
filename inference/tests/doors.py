"""Every door of the site, called alike: a question in, the text out."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.core.management import call_command
from django.test import AsyncClient

from accounts.models import User
from conftest import bearer, sign_in_client
from inference.models import Conversation
from llmsite.asgi import application

Ask = Callable[[User, str, str], Awaitable[str]]

END = ("finished", "error")


async def by_page(user: User, prompt: str, model: str) -> str:
    """The composer without its script, and the page that shows what came of it."""
    client = AsyncClient()
    await sync_to_async(sign_in_client)(client, user)
    answer = await client.post("/chat/", {"prompt": prompt, "model": model})
    assert answer.status_code == 302, answer.content
    conversation = await Conversation.objects.aget(pk=urlsplit(answer["Location"]).path.split("/")[2])
    generation = await conversation.messages.select_related("generation").aget(role="assistant")
    events = [event async for event in events_of(client, str(generation.generation.pk))]
    page = await client.get(answer["Location"])
    text = joined(events)
    assert text in page.content.decode()
    return text


async def by_predict(user: User, prompt: str, model: str) -> str:
    answer = await post(user, "/api/predict", {"prompt": prompt, "model": model})
    assert answer.status_code == 200, answer.content
    return answer.json()["text"]


async def by_stream(user: User, prompt: str, model: str) -> str:
    answer = await post(user, "/api/predict/stream", {"prompt": prompt, "model": model})
    assert answer.status_code == 200, answer.content
    return joined([event async for event in sse(answer)])


async def by_conversation(user: User, prompt: str, model: str) -> str:
    conversation = (await post(user, "/api/conversations", {})).json()
    asked = await post(
        user, f"/api/conversations/{conversation['id']}/messages", {"prompt": prompt, "model": model}
    )
    assert asked.status_code == 202, asked.content
    headers = await sync_to_async(bearer)(user)
    generation = asked.json()["message"]["generation"]["id"]
    return joined([event async for event in events_of(AsyncClient(), generation, **headers)])


async def by_websocket(user: User, prompt: str, model: str) -> str:
    socket = await connect(user)
    await socket.send_json_to({"type": "ask", "prompt": prompt, "model": model})
    events = await until_end(socket)
    await socket.disconnect()
    return joined(events)


async def by_command(user: User, prompt: str, model: str) -> str:
    out = StringIO()
    await sync_to_async(call_command, thread_sensitive=False)(
        "ask", prompt, model=model, user=user.username, json=True, stdout=out
    )
    return json.loads(out.getvalue())["text"]


async def by_openai(user: User, prompt: str, model: str) -> str:
    answer = await post(user, "/v1/chat/completions", _turns(prompt, model))
    assert answer.status_code == 200, answer.content
    return answer.json()["choices"][0]["message"]["content"]


async def by_openai_stream(user: User, prompt: str, model: str) -> str:
    answer = await post(user, "/v1/chat/completions", _turns(prompt, model, stream=True))
    assert answer.status_code == 200, answer.content
    chunks = await _data_of(answer)
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def by_anthropic(user: User, prompt: str, model: str) -> str:
    answer = await post(user, "/v1/messages", _turns(prompt, model, max_tokens=100))
    assert answer.status_code == 200, answer.content
    return answer.json()["content"][0]["text"]


async def by_anthropic_stream(user: User, prompt: str, model: str) -> str:
    answer = await post(user, "/v1/messages", _turns(prompt, model, max_tokens=100, stream=True))
    assert answer.status_code == 200, answer.content
    told = await _data_of(answer)
    return "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")


def _turns(prompt: str, model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}


async def _data_of(answer: Any) -> list[dict[str, Any]]:
    body = b"".join([chunk async for chunk in answer.streaming_content])
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


DOORS: dict[str, Ask] = {
    "page": by_page,
    "predict": by_predict,
    "predict/stream": by_stream,
    "conversation": by_conversation,
    "websocket": by_websocket,
    "command": by_command,
    "openai": by_openai,
    "openai stream": by_openai_stream,
    "anthropic": by_anthropic,
    "anthropic stream": by_anthropic_stream,
}


async def post(user: User, path: str, body: Any, **headers: str) -> Any:
    headers = {**await sync_to_async(bearer)(user), **headers}
    return await AsyncClient().post(path, body, content_type="application/json", headers=headers)


async def connect(user: User, **headers: str) -> WebsocketCommunicator:
    given = {**await sync_to_async(bearer)(user), **headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    socket = WebsocketCommunicator(application, "/ws/chat/", headers=encoded)
    connected, _ = await socket.connect()
    assert connected
    return socket


async def until_end(socket: WebsocketCommunicator) -> list[dict[str, Any]]:
    events = [await socket.receive_json_from(timeout=10)]
    while events[-1]["type"] not in END:
        events.append(await socket.receive_json_from(timeout=10))
    return events


async def events_of(client: AsyncClient, generation: str, **headers: str) -> AsyncIterator[dict[str, Any]]:
    answer = await client.get(f"/api/generations/{generation}/events", headers=headers or None)
    assert answer.status_code == 200, answer.content
    async for event in sse(answer):
        yield event


async def sse(answer: Any) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream, each checked: one id, one name, one line of data."""
    rest = b""
    async for chunk in answer.streaming_content:
        rest += chunk
        while b"\n\n" in rest:
            block, rest = rest.split(b"\n\n", 1)
            if block.startswith(b":"):
                continue
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
            event = json.loads(fields[b"data"])
            assert int(fields[b"id"]) == event["seq"]
            assert fields[b"event"].decode() == {"error": "failure"}.get(event["type"], event["type"])
            yield event
    assert rest == b""


def joined(events: list[dict[str, Any]]) -> str:
    """The text of a whole answer, whose events are numbered from 0 and end once."""
    assert events[-1]["type"] == "finished", events
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "started"
    assert [event["type"] for event in events if event["type"] in END] == ["finished"]
    return "".join(event["text"] for event in events if event["type"] == "delta")
