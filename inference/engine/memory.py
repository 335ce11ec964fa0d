"""Memory that is taken only where it is written, and how much of it there is."""

import mmap
from contextlib import suppress
from pathlib import Path

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def lazy_bytes(size: int) -> mmap.mmap:
    """At least `size` zero bytes, which take memory where they are written, one small page at a time.

    With the huge pages that a plain allocation gets, a short text in one row of a buffer makes most of the
    buffer real.
    """
    memory = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def free_bytes() -> int | None:
    """What this process can still take on this machine and in its container; None where nobody says."""
    known: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = MEMINFO.read_text().splitlines()
        known.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError, KeyError):
        most, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        # Pages of files count as used there, and are given up when others are wanted.
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        known.append(
            most - used + sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        )
    return min(known, default=None)
