"""Tries from inside what no document may ever do, and says what was refused. `limits_in_force` runs it."""

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MOST_CHILDREN = 1000


def read(
    data: bytes, *, task: str = "refusals", file: str = "", folder: str = "", port: int = 0
) -> dict[str, Any]:
    """`task` is "refusals", or what to use without end: "memory" or "time"."""
    if task != "refusals":
        return {"memory": _use_memory, "time": _use_time}[task]()
    return {
        "environment": sorted(os.environ),
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        "refused": {
            "reading files": _is_refused(lambda: os.open(file, os.O_RDONLY)),
            "writing files": _is_refused(lambda: os.open(f"{folder}/probe", os.O_WRONLY | os.O_CREAT)),
            "writing here": _is_refused(lambda: os.open("probe", os.O_WRONLY | os.O_CREAT)),
            "making folders": _is_refused(lambda: os.mkdir(f"{folder}/made")),
            "removing files": _is_refused(lambda: os.unlink(f"{folder}/kept")),
            "processes": _is_refused(_start_processes),
            "signals": _is_refused(lambda: os.kill(os.getppid(), 0)),
            "network": _is_refused(lambda: _connect(port)),
        },
    }


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return True
    return False


def _start_processes() -> None:
    """As many as a fork bomb would; the ones that start end at once."""
    for _ in range(MOST_CHILDREN):
        if os.fork() == 0:
            os._exit(0)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _connect(port: int) -> None:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", port))


def _use_memory() -> dict[str, Any]:
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def _use_time() -> dict[str, Any]:
    while True:
        pass
