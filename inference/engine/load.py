"""Choose, load and warm the model that this process serves."""

import os
from dataclasses import dataclass
from pathlib import Path

from inference.adapter_files import LoraFiles
from inference.engine.chat import ChatTokenizer, Message
from inference.engine.memory import free_bytes
from inference.engine.runner import EngineError, Runner
from inference.engine.scheduler import Scheduler
from llmsite.core.devices import DeviceMissing, may_have_accelerator, torch_device

SLOTS = 8
CONTEXT = 2048
"""Tokens a row by default, where the model was trained on as many: 8 rows take 755 MB when all are full."""
COPY_SHARE = 1.5
"""Of the size of the weights: what a copy takes, with the keys and values of its first answers."""
PACKAGED_FREQUENCY_PENALTY = 0.3
"""Without it, this small model falls into loops in a third of its longer answers (docs/decisions/0001)."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that answers, and what `/health` and `/v1/models` say about it."""

    name: str
    device: str
    engine: str
    context: int
    slots: int
    tokenizer: ChatTokenizer
    scheduler: Scheduler
    frequency_penalty: float = 0.0
    """What an answer gets where its request names none."""


def load(
    *, path: str, device: str, models_root: Path, context: int = CONTEXT, progress: bool = False
) -> LoadedModel:
    """Load the model at `path`, the packaged one where it is empty. Raises EngineError.

    The packaged model runs on onnxruntime where the device is the processor, everything else on
    torch (docs/decisions/0001-local-engine.md).
    """
    device = pick_device(device, packaged=not path)
    if not path and device == "cpu":
        return _packaged(models_root, context=context, progress=progress)
    if not path:
        return _packaged_on_torch(models_root, device=device, context=context)
    from inference.engine.torch_runner import load_torch

    runner, tokenizer = load_torch(path, device=device, slots=SLOTS, context=context)
    name = path.rstrip("/").removesuffix(".gguf")
    name = Path(name).name if Path(path).exists() else name
    return serve(name, device, "torch", runner, tokenizer)


def load_adapter(name: str, files: LoraFiles, folder: Path, beside: LoadedModel) -> LoadedModel:
    """The model in `folder` with an adapter added to its weights, on the general engine.

    It takes as many answers of the same length as `beside`, the base model that runs already. Raises
    AdapterRefused and EngineError.
    """
    from inference.engine.lora import merge
    from inference.engine.torch_runner import load_torch

    if beside.device == "cpu":
        _need_memory(folder)
    runner, tokenizer = load_torch(
        str(folder),
        device=beside.device,
        slots=beside.slots,
        context=beside.context,
        change=lambda model: merge(model, files),
    )
    return serve(name, beside.device, "torch", runner, tokenizer, frequency_penalty=beside.frequency_penalty)


def _need_memory(folder: Path) -> None:
    """Raises EngineError where a copy of these weights would not fit: without memory all answers end."""
    needed = int(COPY_SHARE * sum(path.stat().st_size for path in folder.glob("*.safetensors")))
    free = free_bytes()
    if free is not None and free < needed:
        megabyte = 1_000_000
        raise EngineError(
            f"There is no memory for an adapter: {free // megabyte} MB are free, {needed // megabyte} MB are "
            "needed for a copy of the model."
        )


def pick_device(device: str, *, packaged: bool) -> str:
    """The device that is really there. Raises EngineError where the one asked for is not."""
    if device == "cpu" or (device == "auto" and packaged and not may_have_accelerator()):
        # torch takes a second and a half to import, and nothing else needs it here.
        return "cpu"
    try:
        return torch_device(device)
    except DeviceMissing as error:
        raise EngineError(str(error)) from error


def serve(
    name: str,
    device: str,
    engine: str,
    runner: Runner,
    tokenizer: ChatTokenizer,
    *,
    frequency_penalty: float = 0.0,
) -> LoadedModel:
    """Warm a runner and put a scheduler on it."""
    warm(runner, tokenizer)
    scheduler = Scheduler(runner, tokenizer.decode, end_tokens=tokenizer.end_tokens)
    return LoadedModel(
        name, device, engine, runner.context, runner.slots, tokenizer, scheduler, frequency_penalty
    )


def warm(runner: Runner, tokenizer: ChatTokenizer) -> None:
    """Run every batch size once, so that the first question does not pay for the first allocations."""
    prompt = [token for part in tokenizer.prompt([Message("user", "Hello")]) for token in part]
    for row in range(runner.slots):
        runner.prefill(row, prompt, 0)
        runner.decode(prompt[:1] * (row + 1), [len(prompt)] * (row + 1))
    for row in range(runner.slots):
        runner.release(row)


def _packaged(models_root: Path, *, context: int, progress: bool) -> LoadedModel:
    from inference.engine.chatml import ChatMLTokenizer
    from inference.engine.onnx_runner import OnnxRunner
    from inference.engine.packaged import PACKAGED_MODEL
    from inference.engine.prepare import TOKENIZER, prepared_model, read_shape

    folder = prepared_model(models_root, progress=progress)
    runner = OnnxRunner(folder, read_shape(folder), slots=SLOTS, context=context, threads=cores())
    tokenizer = ChatMLTokenizer.from_file(folder / TOKENIZER)
    return serve(
        PACKAGED_MODEL, "cpu", "onnxruntime", runner, tokenizer, frequency_penalty=PACKAGED_FREQUENCY_PENALTY
    )


def _packaged_on_torch(models_root: Path, *, device: str, context: int) -> LoadedModel:
    from inference.engine.base_model import base_model, weights_folder
    from inference.engine.packaged import PACKAGED_MODEL
    from inference.engine.torch_runner import load_torch

    folder = weights_folder(base_model("", models_root), models_root)
    runner, tokenizer = load_torch(str(folder), device=device, slots=SLOTS, context=context)
    return serve(
        PACKAGED_MODEL, device, "torch", runner, tokenizer, frequency_penalty=PACKAGED_FREQUENCY_PENALTY
    )


def cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
