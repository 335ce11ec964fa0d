"""A served model for the tests: the real application on a real port, and a client for it."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn

from inference.engine.chat import Message
from inference.engine.load import LoadedModel
from inference.engine.scheduler import Scheduler
from inference.engine.server import make_app
from inference.tests.engine.fakes import END, ScriptedRunner, decode_bytes
from llmsite.testing.http import PromptServer


class ByteTokenizer:
    """One token a byte; every message ends in 10, the prompt in 255, which asks for the answer."""

    end_tokens = frozenset({END})

    def prompt(self, messages: Sequence[Message]) -> list[list[int]]:
        parts = [[*self.encode(message.content), 10] for message in messages]
        parts[-1].append(255)
        return parts

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return decode_bytes(tokens)


class Served:
    """A model on loopback."""

    def __init__(self, port: int, model: LoadedModel | None = None) -> None:
        self.port = port
        self.model = model

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """One request; the answer's JSON is read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = (
                body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
            )
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers
        finally:
            connection.close()

    def chat(self, content: str, **options: Any) -> tuple[int, Any]:
        status, body, _ = self.send("POST", "/v1/chat/completions", chat_body(content, **options))
        return status, body

    def text(self, content: str, **options: Any) -> str:
        status, body = self.chat(content, **options)
        assert status == 200, body
        return str(body["choices"][0]["message"]["content"])

    def stream(self, content: str, **options: Any) -> Iterator[Any]:
        """The data of each event, JSON read, up to the end of the body."""
        body = json.dumps(chat_body(content, stream=True, **options)).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/v1/chat/completions", body)
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    yield line[6:].strip().decode() if line.startswith(b"data: [") else json.loads(line[6:])
        finally:
            connection.close()

    def open(self, content: str, **options: Any) -> socket.socket:
        """A raw connection with a request on its way, to be cut off."""
        body = json.dumps(chat_body(content, **options)).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection


def chat_body(content: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **options}


def scripted_model(runner: ScriptedRunner, *, queue_limit: int = 64) -> LoadedModel:
    """A model that answers with the runner's script, under the name `scripted`. Close its scheduler."""
    scheduler = Scheduler(runner, decode_bytes, end_tokens=frozenset({END}), queue_limit=queue_limit)
    return LoadedModel("scripted", "cpu", "test", runner.context, runner.slots, ByteTokenizer(), scheduler)


@contextlib.contextmanager
def serving(runner: ScriptedRunner, *, queue_limit: int = 64, adapters: Any = None) -> Iterator[Served]:
    """Serve a scripted runner under the name `scripted`."""
    model = scripted_model(runner, queue_limit=queue_limit)
    with serving_model(model, adapters) as served:
        try:
            yield served
        finally:
            runner.gated = False
            runner.gate.release(1000)


@contextlib.contextmanager
def serving_model(model: LoadedModel, adapters: Any = None) -> Iterator[Served]:
    """Serve a model, which is closed at the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            make_app(model, adapters=adapters), log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        server = PromptServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield Served(listener.getsockname()[1], model)
        finally:
            server.should_exit = True
            thread.join()
