"""What a run goes on from after a fall: whole or not at all, and nothing in it can run code.

A checkpoint is a folder named by its step: safetensors for everything that is a tensor, JSON for the rest,
and a manifest with the SHA-256 of each file. It is written beside its place, brought to the disk, and then
renamed. One that is not as its manifest says is passed over, as if it had never been written.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

MANIFEST, TENSORS = "manifest.json", "tensors.safetensors"
KEEP = 2
"""Checkpoints: the newest, and the one before in case the disk loses it."""

Tensors = dict[str, Any]


def write(root: Path, step: int, tensors: Tensors, documents: Mapping[str, Any]) -> Path:
    """Keep a checkpoint of `step` below `root`, and no more than KEEP of them; `documents` are JSON files."""
    new = root / f".{step}-{os.getpid()}"
    new.mkdir(parents=True)
    try:
        files = {TENSORS: save(tensors)}
        files |= {name: json.dumps(document).encode() for name, document in documents.items()}
        digests = {name: write_file(new / name, data) for name, data in files.items()}
        write_file(new / MANIFEST, json.dumps({"step": step, "files": digests}).encode())
        _to_disk(new)
        place = _put_in_place(new, root / str(step))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for old in _steps(root)[:-KEEP]:
        shutil.rmtree(root / str(old), ignore_errors=True)
    return place


def last(root: Path) -> Path | None:
    """The newest checkpoint that is whole; what a killed process has left half is removed."""
    for left in root.glob(".*"):
        shutil.rmtree(left, ignore_errors=True)
    return next((root / str(step) for step in reversed(_steps(root)) if is_whole(root / str(step))), None)


def is_whole(place: Path) -> bool:
    """Whether every file is as it was written, and no other is there."""
    try:
        files = json.loads((place / MANIFEST).read_bytes())["files"]
        there = {path.name for path in place.iterdir()}
        return there == {*files, MANIFEST} and all(
            _digest((place / name).read_bytes()) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def tensors_in(place: Path) -> Tensors:
    """The tensors that `write` was given."""
    return load((place / TENSORS).read_bytes())


def document_in(place: Path, name: str) -> Any:
    """One of the documents that `write` was given."""
    return json.loads((place / name).read_bytes())


def _steps(root: Path) -> list[int]:
    names = (path.name for path in root.iterdir()) if root.is_dir() else ()
    return sorted(int(name) for name in names if name.isdecimal())


def _put_in_place(new: Path, place: Path) -> Path:
    try:
        new.rename(place)
    except OSError:
        # One of the same step is there: a run that goes on writes the same again. One that is not whole goes.
        if is_whole(place):
            shutil.rmtree(new)
            return place
        shutil.rmtree(place)
        new.rename(place)
    _to_disk(place.parent)
    return place


def write_file(path: Path, data: bytes) -> str:
    """Write a file through to the disk; its SHA-256."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return _digest(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some file systems have no such thing for folders.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- An optimizer's state ----------------------------------------------------------------------------


def flat(state: Mapping[str, Any]) -> tuple[Tensors, list[dict[str, Any]]]:
    """An optimizer's state as tensors by name, and its groups' numbers."""
    tensors = {
        f"{number}.{name}": value
        for number, values in state["state"].items()
        for name, value in values.items()
    }
    groups = [
        {name: value for name, value in group.items() if name != "params"} for group in state["param_groups"]
    ]
    return tensors, groups


def restored(
    own: Mapping[str, Any], tensors: Mapping[str, Any], groups: list[dict[str, Any]]
) -> dict[str, Any]:
    """The state that `flat` was made of; `own` is that of a new optimizer for the same weights."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    merged = [
        {**mine, **dict(_with_tuples(kept))} for mine, kept in zip(own["param_groups"], groups, strict=True)
    ]
    return {"state": state, "param_groups": merged}


def _with_tuples(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield name, tuple(value) if isinstance(value, list) else value
