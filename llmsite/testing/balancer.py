"""A small proxy in front of several web processes: each connection goes to the next one, whoever it is from.

So two requests of one person never meet the same process twice in a row, which is harder than any real proxy
makes it. It passes on bytes as they come, WebSockets and streams too.
"""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from types import TracebackType

from llmsite.testing.site import Site


class Balancer:
    """`url` is where it listens; `passed` counts the connections of each process, by its port."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._next = cycle(sites)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._open: set[socket.socket] = set()
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.passed = {site.port: 0 for site in sites}

    def __enter__(self) -> "Balancer":
        self._thread = threading.Thread(target=self._accept, name="balancer", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *list(self._open)):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):  # It is closed to end this.
            while True:
                client, _ = self._listener.accept()
                site = next(self._next)
                self.passed[site.port] += 1
                server = socket.create_connection(("127.0.0.1", site.port))
                self._open |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
