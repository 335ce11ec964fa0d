"""What a full disk is called in the table of errors, and what is on the disk for good."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import OperationalError

from llmsite.core.errors import DiskFull

# No space, the quota of the account, the limit of the process.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_POSTGRES_DISK_FULL = "53100"


@contextmanager
def telling_when_full() -> Iterator[None]:
    """Raises DiskFull where the block meets an error of the system, or of the database, that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull from error
        raise
    except OperationalError as error:
        if _says_full(error):
            raise DiskFull from error
        raise


def to_disk(path: Path) -> None:
    """Let a file, or the names in a folder, survive a loss of power from here on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _says_full(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == _POSTGRES_DISK_FULL or "disk is full" in str(error)
