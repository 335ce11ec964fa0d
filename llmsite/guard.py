"""Ends process groups when the process that started them is gone, even one killed by SIGKILL.

A killed process cannot clean up after itself, so a small process beside it does. It reads from a pipe
which groups exist; when the other end of the pipe closes, for whatever reason, it ends those that are left.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

POLL = 0.1


class Guard:
    """The watching process, seen from the watched one. `grace` is in seconds between SIGTERM and SIGKILL."""

    def __init__(self, *, grace: float) -> None:
        # In a session of its own, so that a Ctrl-C in the terminal does not take it first.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(grace)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """The group is gone; its number may be given to another one."""
        self._tell(f"-{group}")

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, line: str) -> None:
        # Without its guard the site still runs; it only loses a net under a rare fall.
        with suppress(BrokenPipeError):
            print(line, file=self._pipe, flush=True)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; whether there still is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # macOS answers so for a group of which only dead processes are left.
    return True


def read_groups(lines: Iterable[str]) -> set[int]:
    """The groups that are left when the pipe has closed."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line.startswith("+") else groups.discard
        change(int(line[1:]))
    return groups


def end_groups(groups: Iterable[int], *, grace: float) -> None:
    left = [group for group in groups if signal_group(group, signal.SIGTERM)]
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(POLL)
        left = [group for group in left if signal_group(group, 0)]
    for group in left:
        signal_group(group, signal.SIGKILL)


if __name__ == "__main__":
    end_groups(read_groups(sys.stdin), grace=float(sys.argv[1]))
