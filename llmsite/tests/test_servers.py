"""The servers that the tests bring along."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from llmsite.testing.servers import Server, start_redis


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: the name of a Unix socket has little over 100 bytes."""
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


def test_a_redis_answers_and_ends(folder):
    server = start_redis(folder)
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
    server.stop()
    assert not psutil.pid_exists(server.process.pid)


def test_a_server_that_does_not_start_says_why_in_its_own_words(folder):
    server = Server(
        ["sh", "-c", "echo no room >&2; exit 1"], folder, url="", stop_with=signal.SIGTERM, user=None
    )
    with pytest.raises(RuntimeError, match="no room"):
        server.wait_until(lambda: False)


def test_every_process_of_the_tests_has_the_stores_that_were_asked_for():
    """Else tests of Redis would pass, having asked nobody."""
    from django.conf import settings
    from django.db import connection

    from llmsite.testing.services import EMBEDDED

    expected = (False, "sqlite") if EMBEDDED else (True, "postgresql")
    assert (bool(settings.REDIS_URL), connection.vendor) == expected
