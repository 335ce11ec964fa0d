"""A real `web` process on the test database, for what only a whole process can show."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.error import URLError
from urllib.parse import quote

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60  # Until it is a failure; on a busy machine a start takes long.


def free_port() -> int:
    """A port for a process that is still to start.

    Those that the system chooses itself, it may give to somebody else before that start; it chooses from
    higher up.
    """
    while True:
        port = random.SystemRandom().randint(12_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def database_url() -> str:
    """The database that the tests of this process use, as another process names it."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return f"postgres://{database['USER']}@:{database['PORT']}/{quote(database['HOST'])}/{database['NAME']}"


class Site:
    """One web process; `url` is where it listens."""

    def __init__(self, *options: str, log: IO[str] | None = None, **environment: str) -> None:
        """`log` takes what it writes; without it that goes where the test's own output does."""
        self._options = options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = environment
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Site":
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "PORT": str(self.port),
            "LOG_LEVEL": "warning",
            **self._environment,
        }
        command = [sys.executable, "manage.py", "serve_web", *self._options]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log
        )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()  # Nobody else ends what was never handed out.
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def kill(self) -> None:
        """As a crash would: no handler runs."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """The exit status. Raises TimeoutExpired."""
        assert self.process
        return self.process.wait(seconds)

    def _wait_until_it_answers(self) -> None:
        assert self.process
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the site ended with status {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"{self.url}/health/live", timeout=1):
                    return
            except (URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError("the site did not answer in time")
