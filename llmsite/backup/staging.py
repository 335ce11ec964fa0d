"""Files of a backup on their way: beside their places until all was looked at, then put there by name."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from llmsite.backup import archive
from llmsite.backup.archive import Part
from llmsite.backup.files import KINDS, Kind
from llmsite.core.disk import to_disk

PREFIX = ".restore-"
ABANDONED_SECONDS = 24 * 3600.0


class Staging:
    """One folder on the volume of each kind."""

    def __init__(self) -> None:
        self._name = f"{PREFIX}{uuid4().hex}"
        self._files: dict[str, tuple[Kind, str, Path]] = {}
        self._made: list[Path] = []
        """Folders that were not there, the outer ones first."""

    def take(self, member: str, kind: Kind, name: str, content: IO[bytes]) -> Part:
        """Write a file that has come, durably. Raises OSError."""
        folder = kind.root / self._name
        self._make(folder)
        path = folder / str(len(self._files))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:
            part = archive.copy(content, file.write)
            file.flush()
            os.fsync(file.fileno())
        self._files[member] = kind, name, path
        return part

    @contextmanager
    def placing(self, members: set[str]) -> Iterator[None]:
        """Put these files into their places; where the block fails, those that are new there go again.

        A file that is there already has the same content, or is damaged: names are given once.
        """
        placed: list[Path] = []
        try:
            for member in sorted(members):
                kind, name, path = self._files[member]
                place = kind.root / name
                self._make(place.parent)
                if not os.path.lexists(place):
                    placed.append(place)
                os.replace(path, place)
            for folder in {(kind.root / name).parent for kind, name, _ in self._files.values()}:
                if folder.is_dir():
                    to_disk(folder)
            yield
        except BaseException:
            for place in placed:
                place.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        for kind in KINDS:
            shutil.rmtree(kind.root / self._name, ignore_errors=True)
        for folder in reversed(self._made):
            # Those with files stay, which are all where nothing has failed.
            with suppress(OSError):
                folder.rmdir()

    def _make(self, folder: Path) -> None:
        self._made += [path for path in (*reversed(folder.parents), folder) if not path.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def staging() -> Iterator[Staging]:
    """Gone with the block, and with it all that was not put into its place."""
    _sweep()
    stage = Staging()
    try:
        yield stage
    finally:
        stage.close()


def _sweep() -> None:
    """Remove what a restore that was killed has left."""
    for kind in KINDS:
        for left in kind.root.glob(f"{PREFIX}*"):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
