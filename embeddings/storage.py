"""The files of documents: below MEDIA_ROOT, under names of our own, readable by the site's account only."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from django.conf import settings

from embeddings.models import DocumentVersion
from llmsite.core.disk import telling_when_full

FOLDER = "documents"
ABANDONED_SECONDS = 24 * 3600.0
"""After so long a file without a row is one whose upload did not come to its end."""


def path_of(name: str) -> Path:
    """Where the file `name` of a version lies."""
    return Path(settings.MEDIA_ROOT) / name


def keep(upload: Path) -> str:
    """Take over an uploaded file, which is on the same volume; its name for `path_of`. Raises DiskFull."""
    name = f"{FOLDER}/{uuid4()}"
    place = path_of(name)
    with telling_when_full():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        upload.chmod(0o600)
        _to_disk(upload)
        upload.rename(place)
        _to_disk(place.parent)
    return name


def remove(names: Iterable[str]) -> int:
    """Remove files; returns how many there were. Raises OSError, and may be called again."""
    removed = 0
    for name in names:
        with suppress(FileNotFoundError):
            path_of(name).unlink()
            removed += 1
    return removed


def sweep(*, older_than: float = ABANDONED_SECONDS) -> int:
    """Remove the files that no row has, and uploads that came to no end; returns how many."""
    before = time.time() - older_than
    kept = [path for path in _files(path_of(FOLDER)) if path.stat().st_mtime < before]
    names = {f"{FOLDER}/{path.name}" for path in kept}
    names -= set(DocumentVersion.objects.filter(file__in=names).values_list("file", flat=True))
    uploads = [path for path in _files(settings.FILE_UPLOAD_TEMP_DIR) if path.stat().st_mtime < before]
    for path in uploads:
        path.unlink(missing_ok=True)
    return remove(names) + len(uploads)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
