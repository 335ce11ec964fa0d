"""A Redis of their own for tests that freeze it, stop it or read what is in it; also without REDIS_URL."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmsite.testing.servers import Server, start_redis


@contextmanager
def own_redis() -> Iterator[Server]:
    """A running server; it is killed at the end, even where a test has frozen or stopped it."""
    folder = Path(tempfile.mkdtemp())  # A short path: the name of a Unix socket has little over 100 bytes.
    server = start_redis(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
