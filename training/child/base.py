"""The model that a run starts from: weights as safetensors, from this machine, and no code of its own."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference.engine.hf_chat import HuggingFaceChat
from training.child.job import ChildFailure

SAFELY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_model(folder: Path, device: str) -> Any:
    """The model in `folder`, ready to train on `device`. Raises ChildFailure."""
    check(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, **SAFELY, use_safetensors=True, dtype=dtype_of(device), attn_implementation="sdpa"
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ChildFailure("base_unusable", detail=type(error).__name__) from error
    model.config.use_cache = False
    return model.to(device)


def dtype_of(device: str) -> torch.dtype:
    """Numbers of 16 bits where the device computes with them, and does not only imitate it."""
    if device == "cpu" and not torch.backends.mkldnn.is_available():
        return torch.float32
    return (
        torch.bfloat16 if device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    )


def load_chat(folder: Path) -> "TrainingChat":
    """The tokenizer in `folder` with its chat template. Raises ChildFailure."""
    check(folder)
    try:
        return TrainingChat(AutoTokenizer.from_pretrained(folder, **SAFELY))
    except (OSError, ValueError, KeyError) as error:
        raise ChildFailure("base_unusable", detail=type(error).__name__) from error


def context_of(folder: Path) -> int:
    """How many tokens the model in `folder` was made for, as far as it says so."""
    config = json.loads((folder / "config.json").read_bytes())
    known = dict(_entries(config)).get("max_position_embeddings")
    return known if isinstance(known, int) else sys.maxsize


class TrainingChat(HuggingFaceChat):
    """The engine's own tokenizer of chats, which knows besides how a turn of the assistant ends."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, frozenset({tokenizer.eos_token_id}))
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.end = self._end_of_turn()

    def _end_of_turn(self) -> int:
        """The first special token that the template puts after an answer, else the tokenizer's own end."""
        mark = "answer"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
        try:
            text = self._tokenizer.apply_chat_template(turns, chat_template=self._template, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise ChildFailure("base_unusable", detail="chat template") from error
        after = text.rpartition(mark)[2]
        special = set(self._tokenizer.all_special_ids)
        ids = self._tokenizer(after, add_special_tokens=False)["input_ids"]
        return int(next((token for token in ids if token in special), self._tokenizer.eos_token_id))


# --- What may be loaded ------------------------------------------------------------------------------


def check(folder: Path) -> None:
    """Raises ChildFailure for a folder that is no model, or that asks for code to be run."""
    if not (folder / "config.json").is_file():
        raise ChildFailure("base_unusable", detail="config.json")
    if not any(folder.glob("*.safetensors")):
        # A pickle can run code, so it is no model here.
        raise ChildFailure("base_unusable", detail="safetensors")
    for path in sorted(folder.glob("*.json")):
        _check_json(path)


def _check_json(path: Path) -> None:
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise ChildFailure("base_unusable", detail=path.name) from error
    for key, value in _entries(data):
        # `auto_map` names code that came with the model; such an implementation a repository of kernels.
        if key == "auto_map" or ("implementation" in key and "/" in str(value)):
            raise ChildFailure("base_unsafe", detail=key)


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
