"""A model's folder is looked through before anything is loaded from it: nothing in it may run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference.engine.errors import EngineError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.msgpack", "*.h5", "*.joblib", "*.npz")


def check(folder: Path) -> None:
    """Raises EngineError, which names the file that is broken or could run code."""
    if not (folder / "config.json").is_file():
        raise EngineError(f"LOCAL_MODEL_PATH: {folder} is no model: {folder / 'config.json'} is missing.")
    for path in sorted(path for pattern in PICKLES for path in folder.rglob(pattern)):
        raise EngineError(
            f"LOCAL_MODEL_PATH: {path} is of a kind that can run code. Weights are read from safetensors: "
            "convert it, or take it out of the folder."
        )
    for path in sorted(folder.rglob("*.json")):
        _check_json(path)
    for path in sorted(folder.glob("*.safetensors")):
        _check_weights(path)


def _check_json(path: Path) -> None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"LOCAL_MODEL_PATH: {path} is broken: {error}") from error
    for key, value in _entries(data):
        if key == "auto_map" and value:
            raise EngineError(f"LOCAL_MODEL_PATH: {path} asks for code of the model's own, which never runs.")
        # Such a value names a repository of kernels, which would be fetched and run.
        if "implementation" in key and "/" in str(value):
            raise EngineError(f"LOCAL_MODEL_PATH: {path} asks for kernels from elsewhere, which never run.")


def _check_weights(path: Path) -> None:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np"):
            pass  # Opening reads the header and compares it with the file's length.
    except Exception as error:
        raise EngineError(f"LOCAL_MODEL_PATH: {path} is broken: {error}") from error


def _entries(data: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, however deep they are."""
    stack = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
