"""Starts a child that computes for long: at the lowest priority, and with nothing but what it needs.

The child is `python -m training.child NAME`, in a process group of its own. It gets no environment but a few
lines of ours, so no key of a provider; its standard input closes when this process is gone, however it went,
and it ends then. What it has to say are lines of JSON on its standard output; what else is written there goes
to a log. What it locks itself up in is in `training/child/confinement.py`.

The folder of a job is the site's: `job.json` says what to do, `log.txt` is the log. `work` in it is the
child's, and a child may leave anything there, such as links that lead out of it. So nothing is written or
given away through a name in `work` after a child has been there.
"""

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from django.conf import settings

from llmsite.core.devices import SLEEPING_THREADS
from llmsite.guard import signal_group

JOB, LOG, WORK = "job.json", "log.txt", "work"
NOBODY = 65534
ENTRY = "training.child"
POLL_SECONDS = 0.1
LOOK_SECONDS = 2.0
"""Between two looks at how much the child has written."""
MOST_LINE = 1 << 16
MOST_LOG = 1 << 20
"""Bytes of the log of earlier children that are kept."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: bytes of memory and of files, seconds on the clock."""

    memory: int
    disk: int
    seconds: float

    @classmethod
    def of_site(cls) -> "Limits":
        return cls(
            memory=settings.TRAINING_MEMORY_MB * 1_000_000 or int(total_memory() * 0.8),
            disk=settings.TRAINING_DISK_MB * 1_000_000,
            seconds=settings.TRAINING_HOURS * 3600.0,
        )


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child came to its end. `data` is what it returned, or what belongs to the failure `code`."""

    how: Literal["finished", "stopped", "failed"]
    code: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def run_child(
    module: str,
    folder: Path,
    *,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], float | None],
    files: Mapping[str, Path] | None = None,
    reads: Sequence[Path] = (),
    limits: Limits | None = None,
) -> ChildEnd:
    """Run `training/child/<module>.py` on the job in `folder` (its job.json) to its end.

    `on_event` is called with each thing it says. `should_stop` is asked ten times a second: None lets it go
    on, else it is asked to end, and killed after so many seconds. `files` are opened here, so that it reads
    them whoever may; `reads` are folders it may read beside; it writes below WORK in `folder` only. Nothing
    of the child is left when this returns, or raises what `on_event` or `should_stop` raised.
    """
    limits = limits or Limits.of_site()
    with _started(module, folder, files or {}, reads, limits) as process:
        return _Watch(process, folder, limits, on_event, should_stop).until_end()


# --- Starting ----------------------------------------------------------------------------------------


@contextmanager
def _started(
    module: str, folder: Path, files: Mapping[str, Path], reads: Sequence[Path], limits: Limits
) -> Iterator[subprocess.Popen[bytes]]:
    with ExitStack() as stack:
        opened = {name: stack.enter_context(path.open("rb")).fileno() for name, path in files.items()}
        log = stack.enter_context(_log(folder))
        options = {
            "job": str(folder / JOB),
            "files": opened,
            "reads": [str(path) for path in reads],
            "memory": limits.memory,
            "disk": limits.disk,
            "user": _own_user(folder, reads),
            "nice": settings.TRAINING_NICE,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", ENTRY, module, str(folder / WORK), json.dumps(options)],
            cwd=settings.BASE_DIR,
            env=_environment(folder / WORK),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=list(opened.values()),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)


def _environment(folder: Path) -> dict[str, str]:
    """All that the child has of an environment."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Else Arrow, which a library looks at, sets aside a gigabyte of memory that counts and is never used.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        **SLEEPING_THREADS,
    }


def _log(folder: Path) -> Any:
    path = folder / LOG
    if path.exists() and path.stat().st_size > MOST_LOG:
        path.unlink()
    return open(path, "ab", opener=_for_the_site_alone)


def _own_user(folder: Path, reads: Sequence[Path]) -> int | None:
    """The user that the child becomes, where this process is root and that user can do the work.

    Its own folder is given to that user. Nobody can become another user who is not root.
    """
    needed = [Path(sys.prefix), Path(sys.base_prefix), folder, *reads]
    if os.geteuid() != 0 or not all(map(_open_to_all, needed)):
        return None
    _give(folder / WORK, NOBODY)
    return NOBODY


def _open_to_all(path: Path) -> bool:
    """Whether every user may go there."""
    place = path.resolve()
    return all(step.stat().st_mode & 0o001 for step in [place, *place.parents])


def reclaim(folder: Path) -> None:
    """Make what a child has left in `folder` the site's own again."""
    if os.geteuid() == 0:
        _give(folder, 0)


def _give(folder: Path, user: int) -> None:
    for path in entries(folder):
        os.lchown(path, user, user)


def entries(folder: Path) -> Iterator[Path]:
    """`folder` and all that is in it, however deep. A link is an entry and no way, also as `folder`."""
    yield folder
    if folder.is_symlink():
        return
    for place, folders, files in os.walk(folder, followlinks=False):
        yield from (Path(place, name) for name in (*folders, *files))


def total_memory() -> int:
    """Bytes of memory of this machine, or of the container that this process is in."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return whole


# --- Until the end -----------------------------------------------------------------------------------


class _Watch:
    """One child, from its first line to its end."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        folder: Path,
        limits: Limits,
        on_event: Callable[[Event], None],
        should_stop: Callable[[], float | None],
    ) -> None:
        self._process = process
        self._folder = folder
        self._limits = limits
        self._on_event = on_event
        self._should_stop = should_stop
        self._began = self._looked = time.monotonic()
        self._killed_at: float | None = None
        self._reason = ""
        self._last: Event | None = None
        self._rest = b""

    def until_end(self) -> ChildEnd:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(POLL_SECONDS) and not self._read():
                    break
                self._look()
        while self._process.poll() is None:
            time.sleep(POLL_SECONDS)
            self._look()
        return self._meaning()

    def _read(self) -> bool:
        """Take in what the child has said; False at the end of it."""
        assert self._process.stdout is not None
        chunk = os.read(self._process.stdout.fileno(), MOST_LINE)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest[-MOST_LINE:]
        for line in lines:
            self._hear(line)
        return bool(chunk)

    def _hear(self, line: bytes) -> None:
        """What is no event of ours is passed over: it is not the child's say what happens here."""
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                if event["event"] in ("finished", "failed", "stopped"):
                    self._last = event
                else:
                    self._on_event(event)

    def _look(self) -> None:
        now = time.monotonic()
        if self._killed_at is not None:
            if now >= self._killed_at:
                signal_group(self._process.pid, signal.SIGKILL)
            return
        if (grace := self._should_stop()) is not None:
            self._stop("stopped", grace)
        elif now - self._began > self._limits.seconds:
            self._stop("too_long", 0)
        elif now - self._looked > LOOK_SECONDS:
            self._looked = now
            if size_of(self._folder) > self._limits.disk:
                self._stop("too_much_disk", 0)

    def _stop(self, reason: str, grace: float) -> None:
        self._reason = reason
        self._killed_at = time.monotonic() + grace
        signal_group(self._process.pid, signal.SIGTERM if grace > 0 else signal.SIGKILL)

    def _meaning(self) -> ChildEnd:
        """What the end means: its own last word, else why we ended it, else that something else did."""
        said, status = self._last, self._process.returncode
        if said is not None and said["event"] == "failed":
            return ChildEnd("failed", str(said.get("code", ""))[:50] or "crashed", _data(said))
        if said is not None and said["event"] == "finished" and status == 0:
            return ChildEnd("finished", data=_data(said))
        if self._reason == "stopped" or (said is not None and said["event"] == "stopped"):
            return ChildEnd("stopped")
        if self._reason:
            return ChildEnd("failed", self._reason)
        return ChildEnd("failed", "killed" if status == -signal.SIGKILL else "crashed", {"status": status})


def _data(said: Event) -> dict[str, Any]:
    data = said.get("data")
    return data if isinstance(data, dict) else {}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of it is left, whatever became of this process meanwhile."""
    signal_group(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()


def size_of(folder: Path) -> int:
    """Bytes of all files below `folder`; what goes meanwhile counts no more."""
    total = 0
    for path in entries(folder):
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def write_job(folder: Path, data: Mapping[str, Any]) -> None:
    """Write what the child has to do. `folder` is made where it is missing."""
    make_folder(folder)
    with open(folder / JOB, "w", opener=_for_the_site_alone) as file:
        json.dump(data, file)


def make_folder(folder: Path) -> Path:
    """Make the folder of a job where it is missing; the child's own in it."""
    # Whoever the child becomes has to come to its folder, and sees nothing on the way.
    folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o711, exist_ok=True)
    work = folder / WORK
    work.mkdir(mode=0o700, exist_ok=True)
    return work


def _for_the_site_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def remove(folder: Path) -> None:
    """Remove a job with everything in it; what is not there is gone already."""
    shutil.rmtree(folder, ignore_errors=True)


# --- What holds on this machine ----------------------------------------------------------------------


def limits_in_force() -> dict[str, bool]:
    """What a child is kept from on this machine: tried in children, which takes a second."""
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as listener:
        os.chmod(place, 0o777)  # noqa: S103 – it is to be refused by other belts than this one
        Path(place, "env.secret").touch()
        port = listener.getsockname()[1]
        tried = _probe({"task": "refusals", "secret": f"{place}/env", "port": port})
        held = {name: kept is True for name, kept in tried.data.get("refused", {}).items()}
        return {
            **held,
            "memory": _probe({"task": "memory"}).code == "out_of_memory",
            "files’ size": _probe({"task": "file"}).code == "disk_full",
            "another user": tried.data.get("user") not in (os.geteuid(), None),
        }


def _probe(job: Mapping[str, Any]) -> ChildEnd:
    limits = Limits(memory=256_000_000, disk=1_000_000, seconds=30.0)
    with tempfile.TemporaryDirectory(prefix="llmsite-probe-") as parent:
        folder = Path(parent) / "job"
        write_job(folder, job)
        return run_child("probe", folder, on_event=lambda _: None, should_stop=lambda: None, limits=limits)
