"""Linux's filter of system calls: those that a process needs to compute and to write its answer, no others.

No file is opened, no socket, no process is started, and none but itself is signalled; such a call fails as
if it were forbidden to this user.
"""

import ctypes
import os
from collections.abc import Iterable
from struct import pack

COMPUTING = {
    # machine: (the kernel's name of it, its number of tgkill, numbers of its other calls)
    "x86_64": (
        0xC000003E,
        234,
        (
            # First read, write, close, fstat, lseek, mmap, mprotect, munmap, brk.
            *(0, 1, 3, 5, 8, 9, 10, 11, 12),
            # Then rt_sigaction, rt_sigprocmask, rt_sigreturn, writev, sched_yield, mremap, madvise, getpid.
            *(13, 14, 15, 20, 24, 25, 28, 39),
            # Then exit, gettimeofday, getrusage, sigaltstack, gettid, futex.
            *(60, 96, 98, 131, 186, 202),
            # Then restart_syscall, clock_gettime, exit_group, getrandom.
            *(219, 228, 231, 318),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        131,
        (
            # First close, lseek, read, write, writev, fstat, exit, exit_group, futex.
            *(57, 62, 63, 64, 66, 80, 93, 94, 98),
            # Then clock_gettime, sched_yield, restart_syscall, sigaltstack.
            *(113, 124, 128, 132),
            # Then rt_sigaction, rt_sigprocmask, rt_sigreturn, getrusage, gettimeofday, getpid, gettid.
            *(134, 135, 139, 165, 169, 172, 178),
            # Then brk, munmap, mremap, mmap, mprotect, madvise, getrandom.
            *(214, 215, 216, 222, 226, 233, 278),
        ),
    ),
}

SET_SECCOMP, MODE_FILTER = 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH_EPERM = 0x7FFF0000, 0x00050001
AT_NUMBER, AT_MACHINE, AT_FIRST_ARGUMENT = 0, 4, 16


class Program(ctypes.Structure):
    """The kernel's `sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def allow_only_computing(libc: ctypes.CDLL) -> bool:
    """Whether the kernel took the filter. It needs the process to have given up new privileges before."""
    known = COMPUTING.get(os.uname().machine)
    if known is None:
        return False
    code = filter_of(*known)
    program = Program(len(code) // 8, code)
    return bool(libc.prctl(SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def filter_of(machine: int, tgkill: int, calls: Iterable[int]) -> bytes:
    """The instructions, eight bytes each: (code, steps to jump if true, if false, value).

    A library that finds no memory aborts, which is a signal to itself: it is let through, so that the parent
    can tell it from a crash.
    """
    refuse = _instruction(RETURN, 0, 0, FAIL_WITH_EPERM)
    allow = _instruction(RETURN, 0, 0, ALLOW)
    start = [
        _instruction(LOAD_WORD, 0, 0, AT_MACHINE),
        _instruction(JUMP_IF_EQUAL, 1, 0, machine),
        refuse,
        _instruction(LOAD_WORD, 0, 0, AT_NUMBER),
    ]
    tests = [step for call in calls for step in (_instruction(JUMP_IF_EQUAL, 0, 1, call), allow)]
    abort = [
        _instruction(JUMP_IF_EQUAL, 0, 3, tgkill),
        _instruction(LOAD_WORD, 0, 0, AT_FIRST_ARGUMENT),
        _instruction(JUMP_IF_EQUAL, 0, 1, os.getpid()),
        allow,
    ]
    return b"".join([*start, *tests, *abort, refuse])


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return pack("=HBBI", code, if_true, if_false, value)
