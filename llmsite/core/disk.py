"""What a full disk is called in the table of errors, and what is on the disk for good."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
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


FOLDERS = ("MEDIA_ROOT", "INDEX_ROOT", "ADAPTERS_ROOT", "DATASETS_ROOT", "TRAINING_ROOT", "MODELS_ROOT")
LEAST_FREE = 500_000_000
"""Bytes; with less, somebody should make room before a file does not fit any more."""


def free_bytes(setting: str) -> int:
    """How much is free where the folder of a setting is, or will be made. Raises OSError."""
    folder = Path(getattr(settings, setting))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def short_of_space() -> list[str]:
    """The settings whose folders have little space left. Raises OSError."""
    return [name for name in FOLDERS if free_bytes(name) < LEAST_FREE]


def _says_full(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == _POSTGRES_DISK_FULL or "disk is full" in str(error)
