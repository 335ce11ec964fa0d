"""A bare ASGI application: the limit of what a server can do.

Run by uvicorn as bench._raw:app. It answers a repeated question out of a dict, passes a stream on from the
server on port BENCH_UPSTREAM without looking into it, and accepts any WebSocket and waits for its end.
"""

import asyncio
import hashlib
import json
import os
from typing import Any

answers: dict[str, dict[str, Any]] = {}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].endswith("/chat/completions"):
        await _relay(receive, send)
    elif scope["type"] == "http":
        await _answer(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _relay(receive: Any, send: Any) -> None:
    body = await _read(receive)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["BENCH_UPSTREAM"]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await reader.readuntil(b"\r\n\r\n")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    # The end of the chunked body is the end of the stream: nobody asks twice here.
    while not (data := await reader.read(1 << 16)).endswith(b"0\r\n\r\n") and data:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    writer.close()
    await send({"type": "http.response.body", "body": b""})


async def _answer(receive: Any, send: Any) -> None:
    body = await _read(receive)
    question = json.loads(body or b"{}")
    key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    answer = answers.setdefault(key, {"text": f"An answer. {key}", "cache": "l1"})
    data = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})
