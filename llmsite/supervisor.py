"""Runs the processes of a Procfile side by side: `python -m llmsite.supervisor [PROCFILE]`.

Each has its own process group. Its output appears line by line behind its name. One that dies starts
again, after a pause that doubles while it keeps dying. The first SIGINT, SIGTERM or SIGHUP asks all of
them to end, the second kills them. Why this is our own: docs/decisions/0002-supervisor.md.
"""

import asyncio
import os
import shlex
import shutil
import signal
import string
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llmsite.guard import Guard, signal_group

COLOURS = (36, 33, 32, 35, 34, 31)
LONGEST_LINE = 1 << 20
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is ours alone


class ProcfileError(Exception):
    """The Procfile cannot be run; its text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds."""

    first_pause: float = 0.5
    longest_pause: float = 10.0
    healthy_after: float = 30.0
    grace: float = 35.0  # Longer than the 30 s that `web` gives to running streams.


def read_procfile(text: str, environment: Mapping[str, str]) -> dict[str, list[str]]:
    """The command of each process by name, with `$NAME` filled in from `environment`.

    Raises ProcfileError for a line that is no `name: command`, and for a variable that is not set.
    """
    lines = (line.strip() for line in text.splitlines())
    commands = dict(_read_line(line, environment) for line in lines if line and not line.startswith("#"))
    if not commands:
        raise ProcfileError("Procfile: it names no process")
    return commands


def _read_line(line: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    name, colon, command = line.partition(":")
    if not colon or not command.strip():
        raise ProcfileError(f"Procfile: expected `name: command`, found `{line}`")
    try:
        return name.strip(), [string.Template(word).substitute(environment) for word in shlex.split(command)]
    except KeyError as error:
        raise ProcfileError(f"Procfile: {name} uses ${error.args[0]}, which is not set") from error
    except ValueError as error:
        raise ProcfileError(f"Procfile: {name}: {error}") from error


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The processes find the supervisor's own Python first, and write their lines at once."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return {**environment, "PATH": path, "PYTHONUNBUFFERED": "1"}


class Output:
    """Standard output, one line at a time, each behind the name of its process."""

    def __init__(self, names: list[str], *, coloured: bool) -> None:
        width = max(len(name) for name in names)
        self._prefixes = {
            name: _paint(f"{name:<{width}} | ", COLOURS[index % len(COLOURS)] if coloured else None)
            for index, name in enumerate(names)
        }

    def line(self, name: str, line: bytes) -> None:
        # A terminal that has gone must not keep the processes from being ended.
        with suppress(OSError):
            sys.stdout.buffer.write(self._prefixes[name] + line.rstrip(b"\r") + b"\n")
            sys.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """A line of the supervisor's own."""
        with suppress(OSError):
            sys.stdout.buffer.write(f"{text}\n".encode())
            sys.stdout.buffer.flush()

    async def relay(self, name: str, reader: asyncio.StreamReader) -> None:
        """Pass on what a process writes until it closes its end; an endless line is cut, not collected."""
        rest = b""
        while chunk := await reader.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self.line(name, line)
        if rest:
            self.line(name, rest)


def _paint(text: str, colour: int | None) -> bytes:
    return (text if colour is None else f"\x1b[{colour}m{text}\x1b[0m").encode()


class Supervisor:
    """Keeps `commands` running until a signal asks for the end."""

    def __init__(self, commands: dict[str, list[str]], output: Output, *, timing: Timing = Timing()) -> None:
        self._commands = commands
        self._output = output
        self._timing = timing
        self._groups: set[int] = set()
        self._stopping = asyncio.Event()
        self._guard = Guard(grace=timing.grace)

    async def run(self) -> None:
        """Returns when all processes have ended after a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        tasks = [asyncio.create_task(self._keep_running(name)) for name in self._commands]
        try:
            await self._stopping.wait()
            self._signal_all(signal.SIGTERM)
            await asyncio.wait(tasks, timeout=self._timing.grace)
        finally:
            self._signal_all(signal.SIGKILL)
            await asyncio.gather(*tasks)
            self._guard.close()

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._signal_all(signal.SIGKILL)
            return
        self._output.say(
            "Stopping. Running answers may take a moment to end; Ctrl-C once more ends them at once."
        )
        self._stopping.set()

    def _signal_all(self, number: int) -> None:
        for group in self._groups:
            signal_group(group, number)

    async def _keep_running(self, name: str) -> None:
        pause = self._timing.first_pause
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            ending = await self._run_once(name)
            if self._stopping.is_set():
                return
            if loop.time() - started >= self._timing.healthy_after:
                pause = self._timing.first_pause
            self._output.line(name, f"{ending}; starts again in {pause:g} s".encode())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, self._timing.longest_pause)

    async def _run_once(self, name: str) -> str:
        """Run the process to its end; how it ended, in words."""
        # A pipe of our own: asyncio's would make the wait for the process a wait for everyone who has
        # inherited its output as well.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._commands[name],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=child_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            return f"did not start ({error.strerror}: {self._commands[name][0]})"
        finally:
            os.close(writing)
        self._groups.add(process.pid)
        self._guard.watch(process.pid)
        reader, transport = await _reader(reading)
        relay = asyncio.create_task(self._output.relay(name, reader))
        if self._stopping.is_set():  # The signal came while the process was being started.
            signal_group(process.pid, signal.SIGTERM)
        status = await process.wait()
        signal_group(process.pid, signal.SIGKILL)  # Whatever it has started and not ended.
        self._groups.discard(process.pid)
        self._guard.forget(process.pid)
        await asyncio.wait([relay], timeout=1)
        relay.cancel()
        transport.close()
        return (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    pipe = os.fdopen(descriptor, "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    return reader, transport


@contextmanager
def shared_metrics() -> Iterator[None]:
    """A new folder in which the processes count together, unless the environment names one; gone at the end.

    It lies in memory where the system has such a place. Those of supervisors that were killed go too.
    """
    if os.environ.get(METRICS_FOLDER):
        yield
        return
    root = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left in root.glob("llmsite-metrics-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"llmsite-metrics-{os.getpid()}-", dir=root)
    os.environ[METRICS_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[METRICS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def supervise(commands: dict[str, list[str]]) -> None:
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    await Supervisor(commands, Output(list(commands), coloured=coloured)).run()


def main() -> None:
    procfile = Path(sys.argv[1] if len(sys.argv) > 1 else "Procfile")
    try:
        commands = read_procfile(procfile.read_text(encoding="utf-8"), os.environ)
    except (ProcfileError, OSError) as problem:
        sys.exit(f"llmsite: {problem}")
    with shared_metrics():
        asyncio.run(supervise(commands))


if __name__ == "__main__":
    main()
