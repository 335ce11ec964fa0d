"""The files of an adapter: sealed once they are written, looked through before anything is loaded from them.

An adapter is data and nothing else: numbers as safetensors, and a configuration of which every field is
known. A manifest has the SHA-256 of each file; its own hash is the adapter's.
"""

import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

FORMAT = 1
MANIFEST, CONFIG, WEIGHTS, README = (
    "manifest.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "README.md",
)
NEEDED = frozenset({CONFIG, WEIGHTS})
ALLOWED = NEEDED | {README}
MOST_BYTES = 2 << 30
"""Of one file; it is read into memory."""
MOST_RANK = 256
NAME_LENGTH = 64
HASH_LENGTH = 12

_TENSOR = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<half>[AB])\.weight")
_MODULE = re.compile(r"[A-Za-z0-9_.]+")
_NUMBERS = frozenset({"F32", "F16", "BF16"})
_ANYTHING = frozenset(
    {"peft_version", "base_model_name_or_path", "lora_dropout", "inference_mode", "task_type"}
)
"""Fields that change nothing in an answer; they are not read."""
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False),
    "megatron_core": ("megatron.core", None),
    "qalora_group_size": (16,),
}
"""Fields with the values that plain LoRA has there; all others have to be empty."""
_READ = frozenset({"r", "lora_alpha", "use_rslora", "target_modules"})


class AdapterRefused(Exception):
    """An adapter that is not used, with a sentence that says why.

    `code` is missing, changed, foreign_file, other_base, not_lora, rank, architecture or broken.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Base(Protocol):
    """The weights an adapter was trained on."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Sealed:
    """What an adapter is called from now on: `name` is the base model's with the first of `sha256`."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LoraFiles:
    """An adapter that was looked through: its numbers are those whose hash the manifest has."""

    rank: int
    scaling: float
    """What the product of the two matrices of a layer is multiplied with."""
    weights: bytes
    """A safetensors file: `base_model.model.<layer>.lora_A.weight` (rank, in) and `lora_B` (out, rank)."""


def seal(folder: Path, *, base: Base, run: str = "") -> Sealed:
    """Write the manifest of the adapter in `folder`, as peft has saved it. Raises AdapterRefused, OSError.

    `run` says which training it comes from, so that two trainings have adapters of their own. Sealing again
    gives the same.
    """
    _check_folder(folder)
    files = _files(folder)
    _look_through(files)
    manifest = {
        "format": FORMAT,
        "base": {"name": base.name, "sha256": base.sha256},
        "run": run,
        "files": {name: _digest(data) for name, data in sorted(files.items())},
    }
    data = json.dumps(manifest, indent=1, sort_keys=True).encode()
    if os.path.lexists(folder / MANIFEST):
        _read(folder / MANIFEST)  # What is no plain file is refused.
    _write(folder / MANIFEST, data)
    return Sealed(adapter_name(base.name, _digest(data)), _digest(data))


def adapter_name(base_name: str, sha256: str) -> str:
    """`<base model>-<12 digits>`, fit for a folder and for a request."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", base_name).strip("-.") or "model"
    return f"{base[: NAME_LENGTH - HASH_LENGTH - 1]}-{sha256[:HASH_LENGTH]}"


def is_name(text: str) -> bool:
    """Whether `adapter_name` could have given it."""
    return re.fullmatch(rf"[A-Za-z0-9._-]+-[0-9a-f]{{{HASH_LENGTH}}}", text) is not None


def verify(folder: Path, sha256: str, *, base_sha256: str = "") -> LoraFiles:
    """The adapter in `folder`, if it is what was sealed as `sha256`, and trained on `base_sha256`.

    Raises AdapterRefused. Each file is read once: what was compared is what is given out.
    """
    _check_folder(folder)
    manifest = _manifest(folder, sha256)
    if base_sha256 and manifest["base"]["sha256"] != base_sha256:
        raise AdapterRefused(
            "other_base",
            f"It was trained on other weights of {manifest['base']['name']} than are served here.",
        )
    files = _files(folder)
    hashes = {name: _digest(data) for name, data in files.items()}
    for name in sorted(hashes.keys() | manifest["files"].keys()):
        if name not in hashes:
            raise AdapterRefused("missing", f"Its file {name} is missing.")
        if hashes[name] != manifest["files"].get(name):
            raise AdapterRefused("changed", f"Its file {name} is not as it was sealed.")
    return _look_through(files)


def _check_folder(folder: Path) -> None:
    # A link could lead to a folder of somebody else's, where the manifest would be written.
    if folder.is_symlink() or not folder.is_dir():
        raise AdapterRefused("missing", f"Its folder {folder} is missing.")


def _manifest(folder: Path, sha256: str) -> dict[str, Any]:
    data = _read(folder / MANIFEST)
    if _digest(data) != sha256:
        raise AdapterRefused("changed", f"Its {MANIFEST} is not as it was sealed.")
    manifest = json.loads(data)  # It has the hash of one that `seal` has written.
    return dict(manifest)


def _files(folder: Path) -> dict[str, bytes]:
    """The content of all files. Raises AdapterRefused where one is missing, or is none of an adapter's."""
    names = {path.name for path in folder.iterdir()} - {MANIFEST}
    if foreign := sorted(names - ALLOWED):
        raise AdapterRefused(
            "foreign_file",
            f"The file {foreign[0]!r} does not belong to an adapter: weights are taken as safetensors only.",
        )
    if absent := sorted(NEEDED - names):
        raise AdapterRefused("missing", f"Its file {absent[0]} is missing.")
    return {name: _read(folder / name) for name in names}


def _read(path: Path) -> bytes:
    try:
        # A link could lead to another file the next time, and a pipe would be waited at for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise AdapterRefused("missing", f"Its file {path.name} cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise AdapterRefused("broken", f"Its file {path.name} is larger than {MOST_BYTES >> 30} GiB.")
    return data


def _look_through(files: Mapping[str, bytes]) -> LoraFiles:
    config = _json(files[CONFIG], CONFIG)
    _check_fields(config)
    rank = _rank(config)
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise AdapterRefused("broken", f"{CONFIG}: lora_alpha must be a number.")
    _check_tensors(_header(files[WEIGHTS]), rank)
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LoraFiles(rank, scaling, files[WEIGHTS])


def _check_fields(config: Mapping[str, Any]) -> None:
    """Every field has to be one of plain LoRA: some of the others name modules that peft would import."""
    for name, value in config.items():
        if name in _ANYTHING or name in _READ:
            continue
        allowed = value in _ONLY[name] if name in _ONLY else not value
        if not allowed:
            raise AdapterRefused("not_lora", f"{CONFIG}: only plain LoRA is served, without {name}.")
    if config.get("peft_type") != "LORA":
        raise AdapterRefused("not_lora", f"{CONFIG}: peft_type must be LORA.")
    targets = config.get("target_modules")
    # A text would be a pattern to search with, as long as it takes.
    if not isinstance(targets, list) or not all(
        isinstance(target, str) and _MODULE.fullmatch(target) for target in targets
    ):
        raise AdapterRefused("not_lora", f"{CONFIG}: target_modules must be a list of names.")


def _rank(config: Mapping[str, Any]) -> int:
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MOST_RANK:
        raise AdapterRefused("rank", f"{CONFIG}: the rank must be a whole number from 1 to {MOST_RANK}.")
    return rank


def _header(weights: bytes) -> dict[str, Any]:
    """What a safetensors file says of its numbers: their names, types and shapes.

    Format: https://github.com/huggingface/safetensors#format
    """
    size = int.from_bytes(weights[:8], "little")
    header = _json(weights[8 : 8 + size], WEIGHTS)
    header.pop("__metadata__", None)
    return header


def _check_tensors(header: Mapping[str, Any], rank: int) -> None:
    halves: dict[str, set[str]] = {}
    for name, tensor in header.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise AdapterRefused("not_lora", f"{WEIGHTS}: {name!r} is no matrix of plain LoRA.")
        _check_shape(name, tensor, rank, at=0 if match["half"] == "A" else 1)
        halves.setdefault(match["module"], set()).add(match["half"])
    alone = sorted(module for module, seen in halves.items() if len(seen) < 2)
    if not halves or alone:
        raise AdapterRefused("broken", f"{WEIGHTS}: {alone[0] if alone else 'every layer'} lacks a matrix.")


def _check_shape(name: str, tensor: Any, rank: int, *, at: int) -> None:
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or tensor.get("dtype") not in _NUMBERS:
        raise AdapterRefused("broken", f"{WEIGHTS}: {name} is no matrix of numbers.")
    if shape[at] != rank:
        raise AdapterRefused("rank", f"{WEIGHTS}: {name} has another rank than {CONFIG} says.")


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AdapterRefused("broken", f"{name} is broken.") from error
    if not isinstance(value, dict):
        raise AdapterRefused("broken", f"{name} is broken.")
    return value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
