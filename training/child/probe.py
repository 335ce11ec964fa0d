"""Tries from inside what no training may ever do, and says what was refused. `limits_in_force` runs it."""

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.child.job import Job, Stopped


def run(job: Job) -> dict[str, Any]:
    """`task` is "refusals", or what to use without end, or how to end: see below."""
    return {
        "refusals": _refusals,
        "memory": _use_memory,
        "file": _write_much,
        "files": _write_many,
        "wait": _wait,
        "obey": _obey,
        "die": _die,
        "babble": _babble,
        "read": _read,
        "links": _leave_links,
    }[str(job.data["task"])](job)


def _refusals(job: Job) -> dict[str, Any]:
    secret, port = str(job.data["secret"]), int(job.data["port"])
    environ = f"/proc/{os.getppid()}/environ"
    return {
        "environment": dict(os.environ),
        "user": os.geteuid(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "refused": {
            "reading files": _is_refused(lambda: os.open(f"{secret}.secret", os.O_RDONLY)),
            "the parent’s secrets": _is_refused(lambda: os.open(environ, os.O_RDONLY)),
            "writing files": _is_refused(lambda: os.open(f"{secret}.new", os.O_WRONLY | os.O_CREAT)),
            "removing files": _is_refused(lambda: os.unlink(f"{secret}.secret")),
            "devices": _is_refused(lambda: os.open("/dev/full", os.O_RDONLY)),
            "programs": _is_refused(lambda: subprocess.run(["/bin/true"], check=True)),
            "processes": _is_refused(_fork),
            "signals": _is_refused(lambda: os.kill(os.getppid(), 0)),
            "network": _is_refused(lambda: _connect(port)),
        },
    }


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (PermissionError, ConnectionError):
        return True
    except OSError:
        return False
    return False


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _connect(port: int) -> None:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", port))


def _use_memory(job: Job) -> dict[str, Any]:
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE))


def _write_much(job: Job) -> dict[str, Any]:
    with (job.folder / "much").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def _write_many(job: Job) -> dict[str, Any]:
    for number in range(100):
        (job.folder / f"{number}").write_bytes(bytes(100_000))
    time.sleep(60)
    return {}


def _wait(job: Job) -> dict[str, Any]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job.tell("waiting", process=os.getpid())
    time.sleep(60)
    return {}


def _obey(job: Job) -> dict[str, Any]:
    def stop(*_: object) -> None:
        Path("kept").touch()
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    job.tell("waiting", process=os.getpid())
    time.sleep(60)
    return {}


def _die(job: Job) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _babble(job: Job) -> dict[str, Any]:
    """What a broken library could write to where the parent listens."""
    shapes = (b"{", b"[1]", b'{"event": 7}', b'{"event": "finished", "data": 3}')
    for line in (*shapes, b"\xff" * 200_000, b"[" * 9999):
        os.write(job.output, line + b"\n")
    job.tell("heard", number=float("nan"))
    return {"said": "all"}


def _leave_links(job: Job) -> dict[str, Any]:
    """What would lead the parent out of the folder, were it to look for something of its own there."""
    for name in ("job.json", "log.txt"):
        Path(name).unlink(missing_ok=True)
        Path(name).symlink_to(Path(job.data["outside"]) / name)
    sys.stderr.write("what the child chooses\n")
    return {}


def _read(job: Job) -> dict[str, Any]:
    return {"rows": job.files["rows"].read().decode()}
