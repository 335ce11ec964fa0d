"""A pytest plugin: a real PostgreSQL and a real Redis for the tests, out of packages, without root.

Django reads its settings while pytest starts, before any conftest.py is imported, so the servers start
in a plugin that `-p` loads and that wraps `pytest_load_initial_conftests`. They listen on Unix sockets
in a temporary folder, so no port is taken, and end with the test run.

With xdist the first process starts PostgreSQL, in which pytest-django gives each worker a database of
its own; each worker starts a Redis of its own, so a test may flush it, freeze it or kill it.

LLMSITE_TEST_EMBEDDED=1 runs the tests as a laptop runs the site: SQLite, and no Redis.
"""

import os
import re
import secrets
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmsite.guard import Guard
from llmsite.testing.chromium import find_chromium
from llmsite.testing.servers import Server, start_postgres, start_redis

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = os.environ.get("LLMSITE_TEST_EMBEDDED", "") not in ("", "0")
_SETTING = re.compile(r"^#?\s?([A-Z][A-Z0-9_]+)=", re.MULTILINE)

FOLDER = "LLMSITE_TEST_FOLDER"

_running = ExitStack()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    options = early_config.known_args_namespace
    if not (options.help or options.version):
        try:
            is_worker = "PYTEST_XDIST_WORKER" in os.environ
            # A worker is given the arguments of the process that started it, `-n` among them.
            runs_tests = is_worker or not _is_controller(options)
            prepare_environment(is_worker=is_worker, runs_tests=runs_tests)
        except BaseException:
            _running.close()
            raise
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    from django.conf import settings

    if settings.configured and settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
        # A database in memory is shared by threads through table locks that fail at once; the site
        # runs on a file in WAL mode, so the tests do as well.
        folder = _folder("sqlite")
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(folder / "test.sqlite3")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    _running.close()


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The Chromium that browser tests drive (`scripts/test` installs one where there is none)."""
    return find_chromium()


def prepare_environment(*, is_worker: bool, runs_tests: bool) -> None:
    """Start the servers this process is to start, and point the settings at them."""
    if not is_worker:
        # What asks pytest to end, a CI for one, means an orderly end: as Ctrl-C does it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _forget_settings_of_the_machine()
        os.environ[FOLDER] = _folder_of_the_run()
        os.environ["SECRET_KEY"] = secrets.token_urlsafe(48)
        os.environ.setdefault("LLMSITE_TEST_MODELS_ROOT", str(ROOT / ".cache" / "models"))
        os.environ["MODELS_ROOT"] = os.environ["LLMSITE_TEST_MODELS_ROOT"]
    os.environ["MEDIA_ROOT"] = str(_folder("media"))
    os.environ["INDEX_ROOT"] = str(_folder("indexes"))
    os.environ["ADAPTERS_ROOT"] = str(_folder("adapters"))
    os.environ["DATASETS_ROOT"] = str(_folder("datasets"))
    if EMBEDDED:
        os.environ["DATABASE_URL"] = f"sqlite:///{_folder('unused') / 'unused.sqlite3'}"
        return
    if not is_worker:
        os.environ["DATABASE_URL"] = _until_the_end(start_postgres(_folder("postgres")))
    if runs_tests:
        os.environ["REDIS_URL"] = _until_the_end(start_redis(_folder("redis")))


def _until_the_end(server: Server) -> str:
    """Stop the server with the run, even with a run that is killed; its URL."""
    guard = Guard(grace=0)
    guard.watch(server.process.pid)

    def stop() -> None:
        server.stop()
        guard.forget(server.process.pid)
        guard.close()

    _running.callback(stop)
    return server.url


def _is_controller(options: object) -> bool:
    """Whether this process hands the tests to xdist workers and runs none itself."""
    return getattr(options, "numprocesses", None) not in (None, 0) or bool(getattr(options, "tx", None))


def _forget_settings_of_the_machine() -> None:
    """No test depends on, or spends, what the developer has set: neither .env nor the environment counts."""
    os.environ["ENV_FILE"] = ""
    for name in _SETTING.findall((ROOT / ".env.example").read_text()):
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)


def _folder_of_the_run() -> str:
    """What all processes of the run write lies in one folder, which the first process removes."""
    folder = tempfile.mkdtemp(prefix="llmsite-")
    _running.callback(shutil.rmtree, folder, ignore_errors=True)
    Path(folder).chmod(0o711)  # PostgreSQL, run by another user where we are root, passes through it.
    return folder


def _folder(prefix: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=os.environ[FOLDER]))
