"""The child gives up whatever it does not need, before it looks at the document.

It has imported its code and holds the bytes of the document by then, so it can do without files, network,
other processes, and more memory and time than it is given. Each belt holds for itself; where the kernel lacks
one (a container without namespaces, another system than Linux), the others remain. `probe.py` tells which do.
"""

import ctypes
import os
import resource
import sys
from contextlib import suppress

from . import seccomp

NOBODY = 65534

NEW_USER, NEW_NET, NEW_MOUNTS, NEW_IPC = 0x10000000, 0x40000000, 0x00020000, 0x08000000
PARENT_DEATH_SIGNAL, NO_NEW_PRIVILEGES = 1, 38
SIGKILL = 9


def lock_down(*, memory: int, cpu: int, parent: int | None = None) -> None:
    """`memory` in bytes of address space, `cpu` in seconds; `parent` is who was the parent at the start."""
    on_linux = sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True) if on_linux else None
    if libc is not None:
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _leave(libc)
    if libc is not None:
        _die_with_parent(libc, parent)
    _limit(memory, cpu)
    if libc is not None:
        seccomp.allow_only_computing(libc)


def _leave(libc: ctypes.CDLL | None) -> None:
    """Into namespaces of its own, a root folder that is empty, and a user that owns nothing."""
    is_root = os.geteuid() == 0
    if libc is not None:
        own = NEW_NET | NEW_MOUNTS | NEW_IPC
        libc.unshare(own if is_root else own | NEW_USER)
    with suppress(OSError):
        os.chroot(".")
    if is_root:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    elif libc is not None:
        _drop_capabilities(libc)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """In a user namespace of its own a process may do everything, inside it: not this one."""
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc.capset(version_3, nothing)


def _die_with_parent(libc: ctypes.CDLL, parent: int | None) -> None:
    """Only once it is another user: the kernel forgets this signal when a process changes its user."""
    libc.prctl(PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # The signal would never come.
        os._exit(1)


def _limit(memory: int, cpu: int) -> None:
    """Zero files means no more of them than are open: no file, socket or pipe can be had any more."""
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_NOFILE": 0,
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": cpu,
    }
    for name, most in limits.items():
        with suppress(ValueError, OSError):
            # One second more than the soft limit, whose signal says why the process died.
            hard = most + 1 if name == "RLIMIT_CPU" else most
            resource.setrlimit(getattr(resource, name), (most, hard))
