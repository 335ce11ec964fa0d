"""What the doors of the model process share: reading a request, and refusing one in OpenAI's envelope."""

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from starlette.requests import Request

T = TypeVar("T")

MOST_BYTES = 4_000_000
"""Of one body."""


class RequestError(Exception):
    """A request that is refused; shown in OpenAI's envelope with `extra` beside the usual keys."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "invalid_value",
        param: str | None = None,
        retry_after: int | None = None,
        **extra: int,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code, **extra}}


async def read_body(request: "Request") -> bytes:
    """The body, read no further than it may be long. Raises RequestError."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise RequestError(f"The limit is {MOST_BYTES} bytes.", status=413, code="request_too_large")
    return bytes(body)


def parse_json(body: bytes) -> dict[str, Any]:
    """The body's object. Raises RequestError."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("The body is not valid JSON.") from error
    if not isinstance(data, dict):
        raise RequestError("The body must be a JSON object.")
    return data


def parse_model(data: dict[str, Any]) -> str | None:
    """The model's name, or None for the one that there is. Raises RequestError."""
    model = data.get("model")
    if model is not None and not isinstance(model, str):
        raise RequestError("model must be a string.", param="model")
    return model


def clean_text(text: str, param: str) -> str:
    """JSON can carry half a surrogate pair, which is no character and which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError("The text has a lone surrogate, which is no character.", param=param) from error
    return text


async def unless_client_leaves(request: "Request", work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes. Raises ClientDisconnect then."""
    from starlette.requests import ClientDisconnect

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: "Request") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
