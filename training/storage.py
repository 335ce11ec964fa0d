"""The files of data sets, below DATASETS_ROOT: of each version one, which never changes.

A file lies in a folder of its version's, so that no two versions share one, and is named by the SHA-256 of
what is in it.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

import structlog
from django.conf import settings

from llmsite.core.disk import telling_when_full, to_disk
from llmsite.core.errors import DatasetDamaged
from training.models import DatasetVersion

log = structlog.get_logger(__name__)

DRAFT = ".draft-"
ABANDONED_SECONDS = 24 * 3600.0
"""After so long a file without a row is one whose import did not come to its end."""


def path_of(version: DatasetVersion) -> Path:
    """Where the file of a version lies, whether it is there or not."""
    return _folder(version.pk) / f"{version.sha256}.jsonl"


def checked_path(version: DatasetVersion) -> Path:
    """Where it lies, after every byte of it was looked at. Raises DatasetDamaged.

    A file that is gone, or is not what was stored, is an error in the log too: somebody has to look.
    """
    path = path_of(version)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = error.strerror or "unreadable"
    if found != version.sha256:
        log.error("dataset_damaged", version=str(version.pk), found=found)
        raise DatasetDamaged(dataset=str(version))
    return path


class Draft:
    """Rows on their way to a file: written to a temporary one, counted, and digested."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._file = path.open("wb")
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, line: bytes) -> None:
        """Raises DiskFull."""
        with telling_when_full():
            self._file.write(line)
        self._digest.update(line)
        self.count += 1

    def lines(self) -> Iterator[bytes]:
        """What was added so far. Raises DiskFull."""
        with telling_when_full():
            self._file.flush()
        with self._path.open("rb") as lines:
            yield from lines

    def to_disk(self) -> None:
        """Bring what was added so far to the disk, so that `keep` has little left to do. Raises DiskFull."""
        with telling_when_full():
            self._file.flush()
            os.fsync(self._file.fileno())

    def keep(self, version: UUID) -> None:
        """Make it the file of a version, durably, before its row is written. Raises DiskFull."""
        folder = _folder(version)
        self.to_disk()
        with telling_when_full():
            folder.mkdir(mode=0o700)
            self._path.rename(folder / f"{self.sha256}.jsonl")
            to_disk(folder)
            to_disk(folder.parent)

    def close(self) -> None:
        """What was not kept is gone."""
        with suppress(OSError):  # What could not be written was told already.
            self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def draft() -> Iterator[Draft]:
    """A file to write rows to, gone with the block unless it was kept. Raises DiskFull."""
    root = Path(settings.DATASETS_ROOT)
    with telling_when_full():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = Draft(root / f"{DRAFT}{uuid4()}")
    try:
        yield opened
    finally:
        opened.close()


def remove(version: UUID) -> None:
    """Remove the file of a version; one that is gone already is as well. Raises OSError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(_folder(version))


def sweep(*, older_than: float = ABANDONED_SECONDS) -> int:
    """Remove what imports have left that came to no end, and files of versions that are gone; how many."""
    root, before = Path(settings.DATASETS_ROOT), time.time() - older_than
    old = [path for path in root.iterdir() if path.stat().st_mtime < before] if root.is_dir() else []
    drafts = [path for path in old if path.name.startswith(DRAFT)]
    folders = {path.name: path for path in old if _is_id(path.name)}
    known = DatasetVersion.objects.usable().filter(pk__in=folders).values_list("pk", flat=True)
    abandoned = folders.keys() - set(map(str, known))
    for path in drafts:
        path.unlink(missing_ok=True)
    for name in abandoned:
        remove(UUID(name))
    return len(drafts) + len(abandoned)


def _folder(version: UUID) -> Path:
    return Path(settings.DATASETS_ROOT) / str(version)


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
