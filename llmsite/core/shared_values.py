"""Numbers of several processes in one place: a folder in which each process has its files.

With PROMETHEUS_MULTIPROC_DIR all processes of a machine (web, model, worker, trainer) count there, and any of
them can tell the sums. Without it a process counts in its own memory.

prometheus-client writes each single count through to its file, which takes five times as long as counting.
Here counts are gathered in memory and written twice a second: a busy web process counts thousands of times.
"""

import atexit
import os
import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector

SETTING = "PROMETHEUS_MULTIPROC_DIR"
WRITE_SECONDS = 0.5

_HOST = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
_LIVE_FILE = re.compile(r"gauge_live[a-z]*_(?P<host>.+)-(?P<pid>\d+)\.db")


def own_name() -> str:
    """How this process's files are called: machines and containers that share a folder have equal pids."""
    return f"{_HOST}-{os.getpid()}"


_Written = values.MultiProcessValue(process_identifier=own_name)


class GatheredValue(_Written):  # type: ignore[misc,valid-type]
    """A number of this process, at most `WRITE_SECONDS` ahead of its file."""

    _lock = threading.Lock()
    _writing = threading.Lock()
    """Held by who writes, so that whoever calls `write` finds all written when it returns."""
    _waiting: list["GatheredValue"] = []
    _writer: threading.Thread | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._gathered = 0.0
        self._waits = False

    def inc(self, amount: float) -> None:
        with GatheredValue._lock:
            self._gathered += amount
            if self._waits:
                return
            self._waits = True
            GatheredValue._waiting.append(self)
            if GatheredValue._writer is None:
                GatheredValue._start()

    @classmethod
    def write(cls) -> None:
        """Bring the files of this process up to date."""
        with cls._writing:
            with cls._lock:
                waiting, cls._waiting = cls._waiting, []
                counted = [value._take() for value in waiting]
            for value, amount in zip(waiting, counted, strict=True):
                super(GatheredValue, value).inc(amount)

    def _take(self) -> float:
        amount, self._gathered, self._waits = self._gathered, 0.0, False
        return amount

    @classmethod
    def _start(cls) -> None:
        cls._writer = threading.Thread(target=cls._write_on, name="metrics", daemon=True)
        cls._writer.start()
        atexit.register(cls.write)

    @classmethod
    def _write_on(cls) -> None:
        while True:
            time.sleep(WRITE_SECONDS)
            cls.write()


def folder() -> Path | None:
    """Where the processes of this machine count together; None where each counts for itself."""
    name = os.environ.get(SETTING)
    return Path(name) if name else None


def share() -> None:
    """Let this process count in the folder, if there is one; to be called before a metric is made.

    Raises ImproperlyConfigured where it cannot be written.
    """
    shared = folder()
    if shared is None:
        # prometheus-client takes one that is empty for a folder, and has by now.
        os.environ.pop(SETTING, None)
        values.ValueClass = values.MutexValue
        return
    try:
        shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        (shared / f"probe_{own_name()}").touch()
        (shared / f"probe_{own_name()}").unlink()
        # A process that had this name before, in a container that starts again, may have been killed.
        for left in shared.glob(f"gauge_live*_{own_name()}.db"):
            left.unlink()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{SETTING} must be a folder that can be written, for example {SETTING}=/dev/shm/llmsite-metrics"
            f" ({error.strerror})"
        ) from error
    values.ValueClass = GatheredValue


def all_values() -> list[Metric]:
    """What all processes have counted so far, those that have ended included."""
    shared = folder()
    if shared is None:
        return list(REGISTRY.collect())
    GatheredValue.write()
    _forget_the_dead(shared)
    return list(MultiProcessCollector(None, path=str(shared)).collect())


def _forget_the_dead(shared: Path) -> None:
    """Drop what is true of a process only while it lives, of those that were killed."""
    for path in shared.glob("gauge_live*.db"):
        found = _LIVE_FILE.fullmatch(path.name)
        if found and found["host"] == _HOST and not _is_alive(int(found["pid"])):
            with suppress(FileNotFoundError):  # Another process was faster.
                path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # Somebody else's, so it lives.
    return True


class Values(Collector):
    """Metrics that were collected already, for a registry that writes them down."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def registry_of(metrics: list[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Values(metrics))
    return registry
