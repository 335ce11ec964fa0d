"""What somebody does with two web processes: requests, and doors that stay open."""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse
from threading import Thread
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from accounts.tokens import TokenPair
from llmsite.testing.site import Site

CSRF = "c" * 32


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: HTTPMessage
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookies(pair: TokenPair) -> dict[str, str]:
    """The headers of a browser that is signed in, with the proof that our own page sent the request."""
    names = {
        settings.ACCESS_COOKIE: pair.access,
        settings.REFRESH_COOKIE: pair.refresh,
        settings.CSRF_COOKIE_NAME: CSRF,
    }
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in names.items()), "X-CSRFToken": CSRF}


def send(site: Site, method: str, path: str, headers: dict[str, str], body: Any = None) -> Answer:
    """The answer to one request; a body goes as JSON below /api/, else as a form."""
    connection, response = _ask(site, method, path, headers, body)
    answer = Answer(response.status, response.headers, response.read().decode())
    connection.close()
    return answer


def _ask(
    site: Site, method: str, path: str, headers: dict[str, str], body: Any
) -> tuple[HTTPConnection, HTTPResponse]:
    is_json = path.startswith("/api/")
    kind = "application/json" if is_json else "application/x-www-form-urlencoded"
    content = None if body is None else json.dumps(body) if is_json else urlencode(body, doseq=True)
    connection = HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.request(method, path, content, {**headers, **({} if body is None else {"Content-Type": kind})})
    return connection, connection.getresponse()


class Door:
    """Something that stays open, read by a thread until it ends: `closed_at`, and `how` it ended."""

    def __init__(self) -> None:
        self.closed_at: float | None = None
        self.how: object = None
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self.how = self._read_to_the_end()
        self.closed_at = time.monotonic()

    def _read_to_the_end(self) -> object:
        raise NotImplementedError

    def close(self) -> None:
        """Hang up, and wait for the thread."""
        self._hang_up()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _hang_up(self) -> None:
        raise NotImplementedError


class Stream(Door):
    """The events of an answer that never ends; `how` is the last line."""

    def __init__(self, site: Site, headers: dict[str, str]) -> None:
        body = {"prompt": "Hello?", "model": "hangs"}
        self._connection, self._response = _ask(site, "POST", "/api/predict/stream", headers, body)
        assert self._response.status == 200, self._response.read()
        self._socket = self._connection.sock
        super().__init__()

    def _read_to_the_end(self) -> object:
        last = b""
        try:
            while line := self._response.readline():
                last = line.strip() or last
        except (OSError, HTTPException, ValueError):
            return "broken off"
        return last.decode()

    def _hang_up(self) -> None:
        if self._socket is not None and self.closed_at is None:
            self._socket.shutdown(2)
        self._thread.join(10)
        self._response.close()
        self._connection.close()


class Socket(Door):
    """A WebSocket; `how` is its close code."""

    def __init__(self, site: Site, headers: dict[str, str]) -> None:
        address = site.url.replace("http", "ws") + "/ws/chat/"
        self._stack = ExitStack()
        self.connection: ClientConnection = self._stack.enter_context(
            connect(address, additional_headers={"Origin": site.url, **headers}, compression=None)
        )
        super().__init__()

    def _read_to_the_end(self) -> object:
        try:
            while True:
                self.connection.recv()
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code

    def _hang_up(self) -> None:
        self._stack.close()
