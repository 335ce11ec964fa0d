"""Folders that are there whole or not at all: made beside their place, and then renamed into it."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from inference.engine.errors import EngineError
from llmsite.core.disk import to_disk

logger = structlog.get_logger(__name__)

MANIFEST = "manifest.json"
STALE_SECONDS = 600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def made(
    folder: Path, make: Callable[[Path], None], *, is_whole: Callable[[], bool], bytes_needed: int
) -> Path:
    """`folder`, filled by `make` now if it is not there or not whole.

    Raises EngineError where it cannot be made; nothing is left behind then.
    """
    if is_whole():
        return folder
    root = folder.parent
    with _clear_disk_errors(root, bytes_needed):
        root.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _need_space(root, bytes_needed)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=root) as temporary:
            new = Path(temporary) / "model"
            new.mkdir()
            make(new)
            _put_in_place(new, folder, is_whole)
    return folder


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep `facts` and the SHA-256 of every file that is in `folder` by now."""
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1))


def is_whole(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the manifest of `folder` has these facts, and every file is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return all(manifest[name] == fact for name, fact in facts.items()) and all(
            digest(folder / name) == value for name, value in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put_in_place(new: Path, folder: Path, is_whole: Callable[[], bool]) -> None:
    """Rename the finished folder into its place, durably."""
    for path in [*new.iterdir(), new]:
        to_disk(path)
    try:
        os.rename(new, folder)
    except OSError:
        if is_whole():
            return  # Another process was faster.
        logger.warning("the prepared model is not whole and is replaced", folder=str(folder))
        shutil.rmtree(folder)
        os.rename(new, folder)
    to_disk(folder.parent)


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed in the middle has left."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _need_space(root: Path, bytes_needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < bytes_needed:
        raise EngineError(_no_space(root, free, bytes_needed))


def _no_space(root: Path, free: int, bytes_needed: int) -> str:
    megabyte = 1_000_000
    return (
        f"No space for the model: {root} has {free // megabyte} MB free, {bytes_needed // megabyte} MB "
        "are needed. Free some, or set MODELS_ROOT to another disk."
    )


@contextmanager
def _clear_disk_errors(root: Path, bytes_needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise EngineError(_no_space(root, shutil.disk_usage(root).free, bytes_needed)) from error
        raise EngineError(f"The model cannot be written to {root}: {error.strerror or error}.") from error
