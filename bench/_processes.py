"""Processes that a benchmark starts. They end with it, also on Ctrl-C, and say what they used."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))


class Process:
    """A process that runs beside the benchmark."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self.popen = popen
        self.pid = popen.pid

    def cpu_seconds(self) -> float:
        """What all its threads have used so far (Linux; in steps of 10 ms)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Its memory now, in bytes (Linux)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@contextmanager
def running(
    command: list[str],
    *,
    port: int | None = None,
    core: int | None = None,
    env: Mapping[str, str | None] | None = None,
    quiet: bool = False,
    files: int = 0,
) -> Iterator[Process]:
    """Run `command` until the block ends, from the moment when something listens on `port`.

    `env` adds to this process's environment, or takes away what is None there. `core` counts from 0 in what
    this machine has; -1 is the last. `files` is how many descriptors it needs.
    Exits where it does not start.
    """
    popen = subprocess.Popen(
        command,
        cwd=ROOT,
        env={name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        text=True,
        # A Ctrl-C is for the benchmark, which then ends its processes in order.
        start_new_session=True,
    )
    process = Process(popen)
    try:
        if core is not None and len(CORES) > 1:
            os.sched_setaffinity(popen.pid, {CORES[core]})
        if files:
            allow_files(files, pid=popen.pid)
        if port is not None:
            _wait_for(process, port)
        yield process
    finally:
        process.stop()


def allow_files(count: int, *, pid: int = 0) -> None:
    """Let a process (this one: 0) have `count` open descriptors. Exits where the machine does not."""
    import resource

    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except (ValueError, PermissionError):
        sys.exit(
            f"This needs {count:,} open files, and the limit is {hard:,}: run `ulimit -n {count}` as root."
        )


def end_on_sigterm() -> None:
    """A `kill` of the benchmark ends its processes too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(process: Process, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.has_ended():
            sys.exit(f"{process.popen.args!r} ended with status {process.popen.returncode}.")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{process.popen.args!r} did not listen within {START_SECONDS} s.")
