"""A child that trains gives up what it does not need, after it has imported its code and before its work.

    no network            a network of its own without a device; no socket can be made
    files                 it reads Python, libraries, the site's code, and the folders of its job; it writes
                          in its own folder alone
    processes             no program is started, and none but its own threads; nobody else is signalled
    user                  where the site runs as root, it goes on as nobody
    memory, files' size   as much as it was given

Each belt holds for itself. Where the kernel lacks one (a container without namespaces, an older Linux,
another system) the others remain; `training.process.limits_in_force` tries them and says which do. An
accelerator has memory of its own, which the kernel does not count, and devices that have to be written to.
"""

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("training", "feedback", "inference", "llmsite", "embeddings", "accounts")
"""Folders of the site that hold nothing but code."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
ACCELERATORS = ("nvidia*", "dri", "kfd")
"""Names of devices, of NVIDIA and of AMD."""

SIGTERM, SIGKILL = 15, 9
PARENT_DEATH_SIGNAL, NO_NEW_PRIVILEGES, SET_SECCOMP, MODE_FILTER = 1, 38, 22, 2
NEW_USER, NEW_NET, NEW_IPC = 0x10000000, 0x40000000, 0x08000000


@dataclass(frozen=True, slots=True)
class Confinement:
    """`reads` are folders to be read, `folder` the one to write in; bytes of `memory`, and of one file."""

    folder: Path
    reads: Sequence[Path]
    memory: int
    disk: int
    user: int | None
    device: str = "cpu"

    def put_on(self) -> None:
        """Every belt that this kernel has."""
        _limit(memory=self.memory if self.device == "cpu" else 0, disk=self.disk)
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        own = NEW_NET | NEW_IPC
        libc.unshare(own if os.geteuid() == 0 else own | NEW_USER)
        if self.user is not None:
            os.setgroups([])
            os.setgid(self.user)
            os.setuid(self.user)
        # Only now: the kernel forgets this signal when a process changes its user.
        libc.prctl(PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)
        _drop_capabilities(libc)
        _landlock(libc, reads=self._readable(), writes=self._writable())
        _filter_calls(libc)

    def _readable(self) -> list[Path]:
        system = [*map(Path, ("/usr", "/lib", "/lib64", "/proc", "/sys", "/etc/ld.so.cache"))]
        system += [Path("/etc/localtime"), Path("/etc/passwd"), Path("/etc/nsswitch.conf")]
        python = [Path(sys.prefix), Path(sys.base_prefix)]
        return [
            *system,
            *map(Path, DEVICES),
            *self._accelerator(),
            *python,
            *(ROOT / name for name in CODE),
            *map(_whole, self.reads),
        ]

    def _writable(self) -> list[Path]:
        return [self.folder, Path("/dev/null"), *self._accelerator()]

    def _accelerator(self) -> list[Path]:
        if self.device == "cpu":
            return []
        return [path for pattern in ACCELERATORS for path in Path("/dev").glob(pattern)]


def _whole(folder: Path) -> Path:
    return folder.resolve()


def lower_priority(nice: int) -> None:
    """Make way for everybody else; `nice` is from 0, not at all, to 19."""
    with suppress(OSError):
        os.nice(nice)
    with suppress(OSError):
        # Linux weighs sessions against each other before it looks at single processes.
        Path("/proc/self/autogroup").write_text(str(nice))
    with suppress(OSError):
        # Where memory runs out, this is what the kernel ends first.
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(*, memory: int, disk: int) -> None:
    limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": disk}
    if memory:
        limits["RLIMIT_DATA"] = memory
    for name, most in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root that could not become somebody else keeps none of its powers; files it owns remain its own."""
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc.capset(version_3, (ctypes.c_uint32 * 6)())


# --- Files (Landlock) --------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the calls, the same on all machines."""
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE
REFER, TRUNCATE = 1 << 13, 1 << 14
MOST_OF_FIRST = (1 << 13) - 1
"""The rights that the first version knows: to read, write, make and remove."""
NO_TCP = 0b11
ONLY_OWN = 0b11
"""Neither sockets without a file nor signals of processes outside."""


def _landlock(libc: ctypes.CDLL, *, reads: Iterable[Path], writes: Iterable[Path]) -> bool:
    """Whether the kernel took it: no file but these can be opened from here on."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    handled = MOST_OF_FIRST | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=QQQ", handled, NO_TCP if version >= 4 else 0, ONLY_OWN if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return False
    try:
        for path in reads:
            _allow(libc, ruleset, path, READ_FILE | READ_DIR | EXECUTE)
        for path in writes:
            _allow(libc, ruleset, path, handled)
        return bool(libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # What is not there need not be allowed.
    try:
        if not path.is_dir():
            rights &= ON_FILES | TRUNCATE
        libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


# --- Calls (seccomp) ---------------------------------------------------------------------------------

REFUSED = {
    # machine: (the kernel's name of it, clone, clone3, and numbers of what is refused)
    "x86_64": (
        0xC000003E,
        56,
        435,
        # socket, fork, vfork, execve, ptrace, mount, unshare, setns, then process_vm_readv and _writev,
        # bpf, execveat, userfaultfd, io_uring_setup, pidfd_getfd.
        (41, 57, 58, 59, 101, 165, 272, 308, 310, 311, 321, 322, 323, 425, 438),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        435,
        # The same in its order: socket, execve, ptrace, mount, unshare, setns, and so on.
        (198, 221, 117, 40, 97, 268, 270, 271, 280, 281, 282, 425, 438),
    ),
}
LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_BITS, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
AT_NUMBER, AT_MACHINE, AT_FIRST_ARGUMENT = 0, 4, 16
CLONE_THREAD = 0x00010000


class Program(ctypes.Structure):
    """The kernel's `sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Whether the kernel took the filter."""
    known = REFUSED.get(os.uname().machine)
    if known is None:
        return False
    code = filter_of(*known)
    program = Program(len(code) // 8, code)
    return bool(libc.prctl(SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def filter_of(machine: int, clone: int, clone3: int, refused: Iterable[int]) -> bytes:
    """The instructions, eight bytes each: (code, steps to jump if true, if false, value).

    Threads are made as before: `clone3` says that it does not exist, because its arguments cannot be seen,
    and `clone`, which is asked then, may make nothing but threads.
    """
    start = [
        _instruction(LOAD_WORD, 0, 0, AT_MACHINE),
        _instruction(JUMP_IF_EQUAL, 1, 0, machine),
        _instruction(RETURN, 0, 0, EPERM),
        _instruction(LOAD_WORD, 0, 0, AT_NUMBER),
        _instruction(JUMP_IF_EQUAL, 0, 1, clone3),
        _instruction(RETURN, 0, 0, ENOSYS),
    ]
    refusals = [
        step
        for call in refused
        for step in (_instruction(JUMP_IF_EQUAL, 0, 1, call), _instruction(RETURN, 0, 0, EPERM))
    ]
    threads = [
        _instruction(JUMP_IF_EQUAL, 0, 3, clone),
        _instruction(LOAD_WORD, 0, 0, AT_FIRST_ARGUMENT),
        _instruction(JUMP_IF_BITS, 1, 0, CLONE_THREAD),
        _instruction(RETURN, 0, 0, EPERM),
    ]
    return b"".join([*start, *refusals, *threads, _instruction(RETURN, 0, 0, ALLOW)])


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
