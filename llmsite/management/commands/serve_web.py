"""The process `web`: the site on uvicorn."""

import asyncio
import gc
import socket
import sys
from argparse import ArgumentParser
from types import FrameType
from typing import Any

import structlog
import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from inference.generations import drain
from llmsite.core.background import spawn
from llmsite.protocols import KERNEL_BUFFER_BYTES, ImpatientHttpProtocol, ImpatientWebSocketProtocol

log = structlog.get_logger("llmsite.web")

DRAIN_SECONDS = 25.0
CLOSE_SECONDS = 4
"""How long open connections may take to close after that."""

BACKLOG = 4096
SWITCH_SECONDS = 0.0005
"""How long a thread that saves answers may keep the event loop, with all its streams, from Python's lock.

Python's own 5 ms are as much as many tokens take together.
"""


GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""A request makes over a thousand short-lived objects, none of them in circles; Python looks every 700."""


class Command(BaseCommand):
    help = "Serve the site's pages and APIs on HOST and PORT."
    # The checks run in `make lint` and at deployment; a start within two seconds is worth more here.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.HOST)
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument(
            "--drain-seconds",
            type=float,
            default=DRAIN_SECONDS,
            help="how long running answers may go on after SIGTERM, before they are stopped and saved",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        listener = _listen(options["host"], options["port"])
        host, port = listener.getsockname()[:2]
        sys.setswitchinterval(SWITCH_SECONDS)
        self.stdout.write(f"web listens on {host}, port {port}")
        _Server(_config(), drain_seconds=options["drain_seconds"]).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn, but answers that are being written may end before it stops, and it then exits with 0."""

    def __init__(self, config: uvicorn.Config, *, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        # What is there now stays to the end: looking through it again and again finds no garbage.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None:  # The application is still being loaded: nothing runs yet.
            self.should_exit = True
            return
        # A second signal is from somebody who does not want to wait.
        self.should_exit = self.force_exit = self._draining
        self._draining = True
        self._loop.call_soon_threadsafe(lambda: spawn(self._drain()))

    async def _drain(self) -> None:
        try:
            await drain(self._drain_seconds)
        except Exception:
            log.exception("drain_failed")
        finally:
            self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CommandError(f"Cannot listen on {host}, port {port}: {error.strerror or error}.") from error
    # Its connections have the same.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
    return listener


def _config() -> uvicorn.Config:
    return uvicorn.Config(
        "llmsite.asgi:application",
        # X-Forwarded-For is believed from named proxies only; uvicorn's default believes loopback.
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=settings.TRUSTED_PROXIES or None,
        http=ImpatientHttpProtocol,
        ws=ImpatientWebSocketProtocol,
        ws_max_size=1 << 20,
        ws_per_message_deflate=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        server_header=False,
        log_config=None,
        access_log=False,
    )
