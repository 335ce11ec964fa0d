"""Runs the child: a process of its own for each document, which can reach nothing but that document."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Any

from embeddings.parsing import limits
from embeddings.parsing.reasons import ParsingFailed, Reason

# The child sees this folder as the top of its own code: neither Django nor the site is on its path.
HERE = Path(__file__).parent
START = "import sys; sys.path.insert(0, sys.argv[1]); from child.main import main; main()"

OUT_OF_MEMORY = frozenset({signal.SIGKILL, signal.SIGABRT, signal.SIGILL, signal.SIGTRAP})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child came to its end; `status` is negative for the signal that killed it."""

    output: bytes
    status: int
    seconds: float


def run(job: str, source: IO[bytes], **options: Any) -> dict[str, Any]:
    """What the child says after doing `job` with `source`, which is read only.

    Raises ParsingFailed for every other end of it.
    """
    return _said(_ended(job, source, options))


def _ended(job: str, source: IO[bytes], options: dict[str, Any]) -> Ended:
    began = time.monotonic()
    with _child(job, source, options) as process:
        killer = Timer(limits.MOST_TIME, _kill, [process.pid])
        killer.start()
        try:
            assert process.stdout is not None
            output = process.stdout.read(limits.MOST_OUTPUT + 1)
            if len(output) <= limits.MOST_OUTPUT:
                _let_end(process)
        finally:
            killer.cancel()
            if process.returncode is None:
                _kill(process.pid)
    return Ended(output, process.returncode, time.monotonic() - began)


def _child(job: str, source: IO[bytes], options: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-c", START, str(HERE), job, json.dumps(options)]
    folder = _new_folder()
    try:
        return subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
    finally:
        # The child is in it, and it has no name any more: nothing can be made in such a folder, and
        # nothing is left of it whatever becomes of this process.
        os.rmdir(folder)


def _new_folder() -> str:
    try:
        return tempfile.mkdtemp(prefix="llmsite-parser-")
    except OSError as error:
        raise ParsingFailed(Reason.DISK_FULL, error.strerror or "") from error


def _let_end(process: subprocess.Popen[bytes]) -> None:
    """Wait, but do not reap it: its id has to be its own until its session is killed. (Not on macOS.)"""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def _kill(leader: int) -> None:
    """A child and whatever it started: they are one session."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _said(ended: Ended) -> dict[str, Any]:
    if len(ended.output) > limits.MOST_OUTPUT:
        raise ParsingFailed(Reason.TOO_LARGE, "output")
    if ended.status:
        # The time on the clock depends on what else the machine does. The processor's is the document's own.
        is_certain = ended.status == -signal.SIGXCPU
        raise ParsingFailed(_why(ended), f"status {ended.status}", is_certain=is_certain)
    answer = _object(ended.output)
    if "failed" in answer:
        raise ParsingFailed(_reason(answer["failed"]), str(answer.get("detail", ""))[:200])
    return answer


def _why(ended: Ended) -> Reason:
    """What the end of a child that said nothing means."""
    if ended.status == -signal.SIGXCPU or ended.seconds >= limits.MOST_TIME:
        return Reason.TOO_SLOW
    # The kernel kills, and libraries end themselves, where memory is short.
    if -ended.status in OUT_OF_MEMORY:
        return Reason.OUT_OF_MEMORY
    return Reason.CRASHED


def _object(output: bytes) -> dict[str, Any]:
    """Whatever ran in the child may have written anything."""
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError) as error:
        raise ParsingFailed(Reason.CRASHED, "output") from error
    if not isinstance(answer, dict):
        raise ParsingFailed(Reason.CRASHED, "output")
    return answer


def _reason(word: object) -> Reason:
    return next((reason for reason in Reason if reason.value == word), Reason.CRASHED)
