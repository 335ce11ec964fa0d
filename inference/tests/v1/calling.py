"""Short forms for the tests of the doors below `/v1/`."""

import json
from typing import Any

from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts.models import User
from conftest import bearer

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


async def post(user: User, path: str, body: Any, **headers: str) -> Any:
    """POST `body` (JSON, or the very bytes) with a new key of `user`."""
    given = {**await sync_to_async(bearer)(user), **headers}
    content = body if isinstance(body, bytes) else json.dumps(body)
    return await AsyncClient().post(path, content, content_type="application/json", headers=given)


def ask(prompt: str = "Hello?", **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": prompt}], **fields}


async def lines_of(answer: Any) -> list[str]:
    """The blocks of a stream."""
    body = b"".join([chunk async for chunk in answer.streaming_content]).decode()
    assert body.endswith("\n\n")
    return body.removesuffix("\n\n").split("\n\n")


async def chunks_of(answer: Any) -> list[Any]:
    """The JSON of each chunk of a stream of OpenAI's; each block is one line of data, and the last [DONE]."""
    assert answer.status_code == 200, answer.content
    *blocks, last = await lines_of(answer)
    assert last == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks if not block.startswith(":")]


def openai_error(answer: Any) -> dict[str, Any]:
    """The error, once the answer is all that OpenAI's clients read of one."""
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["message"]
    assert answer["x-request-id"]
    assert answer["openai-version"]
    assert int(answer["openai-processing-ms"]) >= 0
    assert "Location" not in answer.headers
    return body["error"]


def anthropic_error(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert list(body) == ["type", "error", "request_id"]
    assert body["type"] == "error"
    assert body["request_id"] == answer["request-id"]
    assert body["error"]["message"]
    return body["error"]
