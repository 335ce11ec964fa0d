"""The HTTP interface of a loaded model. It binds to loopback and asks for no credentials."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from embeddings.embedder import Embedder
from embeddings.server import embedding_routes
from inference.cache.semantic_server import semantic_routes
from inference.engine.adapter_host import AdapterHost
from inference.engine.chat import Message
from inference.engine.load import LoadedModel
from inference.engine.protocol import Answer, ChatRequest, parse_chat, parse_messages
from inference.engine.scheduler import Done, Failed, Generation, Piece, QueueFull, SchedulerClosed
from inference.engine.streaming import AnswerStream
from llmsite.core.model_process import RequestError, RequestLines, parse_json, parse_model, read_body

logger = structlog.get_logger(__name__)

RETRY_AFTER = 1
SHORT_TEXT = 4_000
"""Characters that are tokenized in a few milliseconds, which is less than a thread is worth."""
QUIET = frozenset({"/health", "/v1/chat/completions"})
"""The latter's line is written when the answer has ended, with what it took."""


class Service(Protocol):
    """What else is served here, until it is closed."""

    @property
    def routes(self) -> Sequence[Route]: ...

    def close(self) -> None: ...


class Adapters(Protocol):
    """What is served beside the model under names of its own."""

    @property
    def host(self) -> AdapterHost: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


def make_app(
    model: LoadedModel | None,
    embedder: Embedder | None = None,
    beside: Service | None = None,
    adapters: Adapters | None = None,
) -> Starlette:
    """The ASGI application that serves all of these, and closes them at the end.

    The embedder and the adapters load once the application runs, so that the model answers as early as
    without them.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for beginner in (embedder, adapters):
            if beginner:
                beginner.start()
        yield
        if model:
            await asyncio.to_thread(model.scheduler.close)
        for service in (adapters, beside, embedder):
            if service:
                await asyncio.to_thread(service.close)

    async def health(_request: Request) -> Response:
        beside = {"embedder": embedder.health()} if embedder else {}
        loaded = {"adapters": adapters_health(adapters.host)} if adapters else {}
        return JSONResponse({"status": "ok", **model_health(model), **loaded, **beside})

    routes = [
        Route("/health", health, methods=["GET"]),
        *(chat_routes(model, adapters.host if adapters else None) if model else []),
        *([*embedding_routes(embedder), *semantic_routes(embedder)] if embedder else []),
        *(beside.routes if beside else []),
    ]
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        RequestError: _refuse,
        ClientDisconnect: _client_gone,
        404: _no_such_path,
        405: _wrong_method,
        500: _broken,
    }
    lines = Middleware(RequestLines, quiet=QUIET)
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan, middleware=[lines])


def model_health(model: LoadedModel | None) -> dict[str, Any]:
    """What `/health` tells of the chat model; there is none where another server has it."""
    if model is None:
        return {"model": None}
    return {
        "model": model.name,
        "device": model.device,
        "engine": model.engine,
        "slots": model.slots,
        "slots_in_use": model.scheduler.slots_in_use,
        "queued": model.scheduler.queued,
    }


def adapters_health(host: AdapterHost) -> dict[str, Any]:
    """How each adapter is, and how much it has to do."""
    work = {
        model.name: {"slots_in_use": model.scheduler.slots_in_use, "queued": model.scheduler.queued}
        for model in host.models()
    }
    return {name: {"status": told.state, **work.get(name, {})} for name, told in host.told().items()}


def chat_routes(model: LoadedModel, adapters: AdapterHost | None = None) -> list[Route]:
    doors = Doors(model, adapters)
    return [
        Route("/v1/models", doors.models, methods=["GET"]),
        Route("/v1/chat/completions", doors.chat, methods=["POST"]),
        Route("/tokenize", doors.tokenize, methods=["POST"]),
    ]


class Doors:
    """The endpoints of the chat model, and of its adapters under their own names."""

    def __init__(self, model: LoadedModel, adapters: AdapterHost | None = None) -> None:
        self._model = model
        self._adapters = adapters
        self._started = int(time.time())

    async def models(self, _request: Request) -> Response:
        """As vLLM has it, an adapter's parent is the model that it was trained on."""
        adapters = self._adapters.models() if self._adapters else []
        cards = [self._card(self._model, None), *(self._card(one, self._model.name) for one in adapters)]
        return JSONResponse({"object": "list", "data": cards})

    async def tokenize(self, request: Request) -> Response:
        data = parse_json(await read_body(request))
        model = self._find(parse_model(data))
        if "messages" in data:
            parts = await _prompt(model, parse_messages(data))
        else:
            prompt = parse_messages({"messages": [{"role": "user", "content": data.get("prompt")}]})[
                0
            ].content
            parts = [await asyncio.to_thread(model.tokenizer.encode, prompt)]
        tokens = [token for part in parts for token in part]
        answer = {"count": len(tokens), "max_model_len": model.context, "tokens": tokens}
        return JSONResponse({**answer, "per_message": [len(part) for part in parts]})

    async def chat(self, request: Request) -> Response:
        chat = parse_chat(parse_json(await read_body(request)))
        model = self._find(chat.model)
        stream = await self._start(chat, model)
        answer = ChatAnswer(stream, chat, Answer(model.name))
        return StreamedAnswer(answer) if chat.stream else WholeAnswer(answer)

    async def _start(self, chat: ChatRequest, model: LoadedModel) -> AnswerStream:
        prompt = [token for part in await _prompt(model, chat.messages) for token in part]
        limit = model.context
        if len(prompt) > limit:
            raise RequestError(
                f"This model's context length is {limit} tokens; the messages have {len(prompt)} tokens.",
                code="context_length_exceeded",
                param="messages",
                tokens=len(prompt),
                limit=limit,
            )
        # The last token that is written never has to be read again, so a full context still gives one.
        room = max(limit - len(prompt), 1)
        most = min(chat.max_tokens or room, room)
        sampling = chat.sampling
        if sampling.frequency_penalty is None:
            sampling = replace(sampling, frequency_penalty=model.frequency_penalty)
        generation = Generation(prompt=prompt, max_tokens=most, sampling=sampling, stop=chat.stop)
        try:
            return AnswerStream(model.scheduler, generation)
        except QueueFull as error:
            raise _busy(
                "All slots are taken and the queue is full. Try again in a moment.", "queue_full"
            ) from error
        except SchedulerClosed as error:
            raise _busy("The model's process is stopping.", "server_stopping") from error

    def _find(self, name: str | None) -> LoadedModel:
        """The model of this name. Raises RequestError where there is none, or it cannot answer."""
        if name in (None, self._model.name):
            return self._model
        adapter = self._adapters.find(name) if self._adapters and name else None
        if adapter is None:
            message = f"The model {name!r} is not served here; {self._model.name!r} is."
            raise RequestError(message, status=404, code="model_not_found", param="model")
        return adapter

    def _card(self, model: LoadedModel, parent: str | None) -> dict[str, Any]:
        card = {"id": model.name, "object": "model", "created": self._started, "owned_by": "llmsite"}
        return card | {"root": model.name, "parent": parent, "max_model_len": model.context}


async def _prompt(model: LoadedModel, messages: Sequence[Message]) -> list[list[int]]:
    # A long conversation takes a second, during which nobody else's answer may stand still.
    encode = model.tokenizer.prompt
    is_short = sum(len(message.content) for message in messages) < SHORT_TEXT
    try:
        return encode(messages) if is_short else await asyncio.to_thread(encode, messages)
    except ValueError as error:
        raise RequestError(
            f"The model's chat template refuses the messages: {error}", param="messages"
        ) from error


class ChatAnswer:
    """One answer on its way to one client, with what its log line tells."""

    def __init__(self, stream: AnswerStream, chat: ChatRequest, frame: Answer) -> None:
        self.frame = frame
        self.chat = chat
        self._stream = stream
        self._began = time.perf_counter()
        self._first: float | None = None
        self._outcome = "cancelled"
        self._done: Done | None = None

    async def events(self) -> AsyncIterator[Piece | Done | Failed]:
        async for event in self._stream:
            if self._first is None:
                self._first = time.perf_counter() - self._began
            if isinstance(event, Done):
                self._done, self._outcome = event, event.finish_reason
            if isinstance(event, Failed):
                self._outcome = "failed"
            yield event

    def close(self) -> None:
        """Free the answer's slot, if it still has one, and write the log line."""
        self._stream.close()
        logger.info(
            "answer",
            outcome=self._outcome,
            input_tokens=self._done.input_tokens if self._done else None,
            output_tokens=self._done.output_tokens if self._done else None,
            first_token_ms=_milliseconds(self._first),
            duration_ms=_milliseconds(time.perf_counter() - self._began),
        )


class _AnswerResponse(Response):
    """Sends an answer and ends it as soon as the client has gone."""

    def __init__(self, answer: ChatAnswer) -> None:
        super().__init__()
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self.send_answer(scope, receive, send))
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            gone.cancel()
            self.answer.close()

    async def send_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError


class WholeAnswer(_AnswerResponse):
    """The answer as one JSON object."""

    async def send_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        text = ""
        async for event in self.answer.events():
            if isinstance(event, Piece):
                text += event.text
            elif isinstance(event, Done):
                response = JSONResponse(self.answer.frame.completion(text, event))
            else:
                response = JSONResponse(_failure().body, 500)
        await response(scope, receive, send)


class StreamedAnswer(_AnswerResponse):
    """The answer as server-sent events, one a piece."""

    async def send_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for data in self._data():
            body = f"data: {data}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _data(self) -> AsyncIterator[str]:
        frame, extra = self.answer.frame, ({"usage": None} if self.answer.chat.include_usage else {})
        yield _json({**frame.chunk({"role": "assistant", "content": ""}), **extra})
        async for event in self.answer.events():
            if isinstance(event, Piece):
                yield _json({**frame.chunk({"content": event.text}), **extra})
            elif isinstance(event, Done):
                yield _json({**frame.chunk({}, event.finish_reason), **extra})
                if self.answer.chat.include_usage:
                    yield _json(frame.usage_chunk(event))
                yield "[DONE]"
            else:
                yield _json(_failure().body)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _busy(message: str, code: str) -> RequestError:
    return RequestError(message, status=503, code=code, retry_after=RETRY_AFTER)


def _failure() -> RequestError:
    return RequestError("The model failed; its log says why.", status=500, code="model_failed")


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse(error.body, error.status, headers)


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # Nobody reads it; it only keeps the log free of a traceback.


async def _no_such_path(_request: Request, _error: Exception) -> Response:
    return JSONResponse(RequestError("There is no such path.", status=404, code="not_found").body, 404)


async def _wrong_method(_request: Request, _error: Exception) -> Response:
    message = "This path does not take this method."
    return JSONResponse(RequestError(message, status=405, code="method_not_allowed").body, 405)


async def _broken(_request: Request, _error: Exception) -> Response:
    return JSONResponse(_failure().body, 500)
