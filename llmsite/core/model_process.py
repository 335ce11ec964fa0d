"""What the doors of the model process share: reading a request, and refusing one in OpenAI's envelope."""

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from llmsite.core import tracing
from llmsite.core.logs import read_request_id, request_id

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

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


class RequestLines:
    """ASGI middleware: a request has the id under which the site sent it, and a line in the log.

    `quiet` paths have none: machines ask them all the time, or their answers have a line of their own.
    """

    def __init__(self, app: "ASGIApp", quiet: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._quiet = quiet

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token = request_id.set(read_request_id(headers.get("x-request-id")))
        began, status = time.perf_counter(), 0

        async def note(message: "Message") -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with tracing.server(scope["method"], headers.get("traceparent")) as told:
                await self._app(scope, receive, note)
                told.answered(scope["path"], status)
        finally:
            if scope["path"] not in self._quiet:
                milliseconds = round((time.perf_counter() - began) * 1000, 2)
                log.info("request", path=scope["path"], status=status, latency_ms=milliseconds)
            request_id.reset(token)


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
