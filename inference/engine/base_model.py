"""Which weights this machine serves and trains on: name, place, and the hash that tells them apart.

It imports no torch, so that a page or a worker may ask too.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inference.engine import folders, model_folder
from inference.engine.errors import EngineError
from inference.engine.packaged import PACKAGED_MODEL, packaged_gguf

FORMAT = 1
"""Of a folder of dequantized weights: goes up whenever what is written there changes."""
DIGESTS = ".digests.json"
READ_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""The files of a model's folder that its answers depend on."""
ROOT = Path(__file__).resolve().parents[2]
GROWTH = 6
"""How many times larger the folder of a file of 4-bit weights may get, its numbers in 16 bits."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The weights that the engine serves. Adapters fit those with the same `sha256` only.

    `name` is what the engine calls them, and so the `provider_model` of their row. `source` is a GGUF file or
    a folder of safetensors.
    """

    name: str
    source: Path
    sha256: str


def base_model(local_model_path: str, models_root: Path) -> BaseModel:
    """The model at `local_model_path`, or the packaged one where that is empty. Raises EngineError.

    Its hash is computed once; after that the sizes and times of its files stand for it.
    """
    name, source = _place(local_model_path)
    try:
        digest = _Digests(models_root).of(source)
    except OSError as error:
        raise EngineError(f"LOCAL_MODEL_PATH: {source} cannot be read: {error.strerror or error}.") from error
    return BaseModel(name, source, digest)


def weights_folder(base: BaseModel, models_root: Path) -> Path:
    """A folder of safetensors and a tokenizer that transformers loads; its chat template is the engine's.

    It has been looked through. A GGUF file is dequantized once, by a process of its own (about 15 s for the
    packaged model); what came of it is compared with its hashes each time. Raises EngineError.
    """
    if base.source.is_dir():
        model_folder.check(base.source)
        return base.source
    folder = models_root / f"{slug(base.name)}-{base.sha256[:12]}"
    facts = {"format": FORMAT, "source": base.sha256}
    return folders.made(
        folder,
        lambda new: _dequantize(base.source, new, facts),
        is_whole=partial(folders.is_whole, folder, facts),
        bytes_needed=GROWTH * base.source.stat().st_size,
    )


def slug(name: str) -> str:
    """A model's name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _place(path: str) -> tuple[str, Path]:
    """What the engine calls the model at `path`, and where its weights are."""
    if not path:
        return PACKAGED_MODEL, packaged_gguf()
    place = Path(path).expanduser()
    if place.exists():
        return Path(path.rstrip("/").removesuffix(".gguf")).name, place.resolve()
    if path.startswith(("/", ".", "~")) or path.endswith(".gguf") or path.count("/") > 1:
        raise EngineError(f"LOCAL_MODEL_PATH: there is no model directory and no GGUF file at {place}.")
    return path, _fetched(path)


def _fetched(name: str) -> Path:
    """The folder of a model of the hub that the engine has fetched already."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError) as error:
        raise EngineError(
            f"LOCAL_MODEL_PATH: {name} is not on this machine yet; the engine fetches it when it starts."
        ) from error


def _dequantize(source: Path, folder: Path, facts: Mapping[str, object]) -> None:
    # In a process of its own: it takes seconds in which no answer of this one should stand still, and memory
    # that only its end gives back.
    command = [sys.executable, "-m", "inference.engine.dequantize", str(source), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        line = next(reversed(ended.stderr.strip().splitlines()), f"it ended with {ended.returncode}")
        raise EngineError(f"LOCAL_MODEL_PATH: {source} cannot be dequantized: {line}")
    folders.write_manifest(folder, facts)


class _Digests:
    """Hashes of files, kept below `root` under what changes with the file: size, times and number."""

    def __init__(self, root: Path) -> None:
        self._path = root / DIGESTS
        self._known: dict[str, list[object]] = {}
        with suppress(OSError, ValueError):
            self._known = dict(json.loads(self._path.read_text()))

    def of(self, source: Path) -> str:
        """Of a file the hash of its content, of a folder one over those of all files that are read."""
        before = dict(self._known)
        digest = self._of_file(source) if source.is_file() else self._of_folder(source)
        if self._known != before:
            self._save()
        return digest

    def _of_folder(self, folder: Path) -> str:
        lines = "".join(f"{path.name}\0{self._of_file(path)}\n" for path in _read_files(folder))
        if not lines:
            raise EngineError(f"LOCAL_MODEL_PATH: {folder} is no model: there is nothing in it.")
        return hashlib.sha256(lines.encode()).hexdigest()

    def _of_file(self, path: Path) -> str:
        stat = path.stat()
        # The time of the last change of anything cannot be set by hand, unlike that of the content.
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known is None or known[:-1] != seen:
            known = self._known[str(path)] = [*seen, folders.digest(path)]
        return str(known[-1])

    def _save(self) -> None:
        # Without it, it is computed again the next time; a web process may not be allowed to write here.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                json.dump(self._known, file)
            os.replace(file.name, self._path)


def _read_files(folder: Path) -> Iterable[Path]:
    return sorted(path for pattern in READ_FILES for path in folder.glob(pattern) if path.is_file())
