"""Runs any causal language model of transformers on torch: processor, CUDA or MPS.

Rows join and leave a batch here too. A model whose layers all attend to everything shares one
buffer of keys and values, whose first rows are decoded in one forward pass. Every other
architecture (sliding windows, recurrent layers) keeps a cache of its own for each row, and its rows
are decoded one after the other.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GenerationConfig
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from inference.engine import model_folder
from inference.engine.chat import ChatTokenizer, Message
from inference.engine.hf_chat import HuggingFaceChat
from inference.engine.memory import lazy_bytes
from inference.engine.runner import EngineError, Logits, Runner

CHUNK = 64


def load_torch(
    path: str,
    *,
    device: str,
    slots: int,
    context: int,
    change: Callable[[nn.Module], None] = lambda _model: None,
) -> tuple[Runner, ChatTokenizer]:
    """Load a Hugging Face directory, an id of the hub, or a GGUF file. Raises EngineError.

    Weights come from safetensors or GGUF only, because a pickle can run code, and code that comes
    with a model is never run. `change` is given the model before anything is computed with it.
    """
    source = model_source(path)
    with _clear_errors(path):
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        # A template is a program: one that does not work, or wants out of its sandbox, is told at once.
        HuggingFaceChat(tokenizer, frozenset()).prompt([Message("user", "Hello")])
        model = AutoModelForCausalLM.from_pretrained(
            **source, dtype="auto", use_safetensors=True, trust_remote_code=False
        )
    change(model)
    if device == "cpu" and model.dtype == torch.float16:
        model = model.to(torch.bfloat16)  # Processors compute in bfloat16, float16 they only emulate.
    model = model.to(device).eval()
    trained = getattr(model.config.get_text_config(), "max_position_embeddings", None) or context
    runner = pick_runner(model, slots=slots, context=min(context, trained))
    return runner, HuggingFaceChat(tokenizer, _end_tokens(model.generation_config, tokenizer))


def model_source(path: str) -> dict[str, Any]:
    """The arguments of `from_pretrained`; the hub is asked only for what is no path on this machine."""
    place = Path(path).expanduser()
    if place.is_file() and place.suffix == ".gguf":
        folder, rest = str(place.parent), {"gguf_file": place.name}
        return {"pretrained_model_name_or_path": folder, "local_files_only": True, **rest}
    if place.is_dir():
        model_folder.check(place)
        return {"pretrained_model_name_or_path": str(place), "local_files_only": True}
    if place.exists() or path.startswith(("/", ".", "~")) or path.endswith(".gguf") or path.count("/") > 1:
        raise EngineError(f"LOCAL_MODEL_PATH: there is no model directory and no GGUF file at {place}.")
    return {"pretrained_model_name_or_path": path}


def pick_runner(model: Any, *, slots: int, context: int) -> Runner:
    """One batch for all rows where the architecture allows it, which a trial decides."""
    separate = SeparateRunner(model, slots=slots, context=context)
    layers = DynamicCache(config=model.config).layers
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return separate
    batched = BatchedRunner(model, slots=slots, context=context)
    return batched if _same_answers(batched, separate) else separate


class BatchedRunner:
    """See Runner: all rows in one buffer a layer."""

    chunk = CHUNK

    def __init__(self, model: Any, *, slots: int, context: int) -> None:
        self.slots, self.context = slots, context
        self._model = model
        count = len(DynamicCache(config=model.config).layers)
        self._layers = [_SlotLayer(slots, context) for _ in range(count)]
        self._cache = Cache(layers=list(self._layers))
        self._last_only = _last_only(model)

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        return self._run(slice(row, row + 1), [tokens], [start])[0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Logits:
        return self._run(slice(0, len(tokens)), [[token] for token in tokens], lengths)

    @torch.inference_mode()
    def swap(self, first: int, second: int, length: int) -> None:
        for layer in self._layers:
            layer.swap(first, second, length)

    def release(self, row: int) -> None:
        """Nothing to do: the next prompt is written over what the row holds."""

    @torch.inference_mode()
    def _run(self, rows: slice, tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> Logits:
        device = self._model.device
        ids = torch.tensor(tokens, device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(ids.shape[1], device=device)
        longest = max(starts) + ids.shape[1]
        # (rows, 1, new, longest): a token sees its own row up to its own position.
        mask = torch.arange(longest, device=device) <= positions[:, None, :, None]
        numbers = torch.arange(rows.start, rows.stop, device=device)[:, None]
        for layer in self._layers:
            layer.aim(rows, (numbers, positions), longest)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **self._last_only,
        )
        return _numpy(output.logits)


class _SlotLayer(CacheLayerMixin):
    """One layer's keys and values, (slots, heads, context, head size), written in place."""

    is_sliding = False

    def __init__(self, slots: int, context: int) -> None:
        super().__init__()
        self._size = (slots, context)

    def aim(self, rows: slice, places: tuple[torch.Tensor, torch.Tensor], longest: int) -> None:
        """Say where the next update goes: numbers of `rows` (rows, 1) and positions in them (rows, new)."""
        self._rows, self._places, self._longest = rows, places, longest

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = (self._zeros(states) for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def swap(self, first: int, second: int, length: int) -> None:
        for buffer in (self.keys, self.values):
            if buffer is not None:
                buffer[[first, second], :, :length] = buffer[[second, first], :, :length]

    def get_seq_length(self) -> int:
        return 0 if not self.is_initialized else self._longest

    def get_max_length(self) -> int:
        return self._size[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._longest, 0

    def _zeros(self, states: torch.Tensor) -> torch.Tensor:
        slots, context = self._size
        shape = (slots, states.shape[1], context, states.shape[3])
        if states.device.type != "cpu":
            return states.new_zeros(shape)
        count = math.prod(shape)
        memory = lazy_bytes(count * states.element_size())
        return torch.frombuffer(memory, dtype=states.dtype, count=count).view(shape)

    def _write(self, buffer: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
        assert buffer is not None
        # `scatter_` would read the whole buffer each time, which takes longer than all the rest of a step.
        buffer.transpose(1, 2)[self._places] = states.transpose(1, 2)
        return buffer[self._rows, :, : self._longest]


class SeparateRunner:
    """See Runner: a cache of its own for each row, for architectures that share none."""

    def __init__(self, model: Any, *, slots: int, context: int) -> None:
        self.slots, self.context = slots, context
        # Recurrent layers want a prompt in one piece.
        self.chunk = context
        self._model = model
        self._caches: list[Cache | None] = [None] * slots
        self._last_only = _last_only(model)

    @torch.inference_mode()
    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        cache = self._caches[row]
        if start == 0 or cache is None:
            cache = self._caches[row] = DynamicCache(config=self._model.config)
        ids = torch.tensor([tokens], device=self._model.device)
        output = self._model(input_ids=ids, past_key_values=cache, use_cache=True, **self._last_only)
        return _numpy(output.logits)[0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Logits:
        rows = zip(tokens, lengths, strict=True)
        return np.stack([self.prefill(row, [token], length) for row, (token, length) in enumerate(rows)])

    def swap(self, first: int, second: int, length: int) -> None:
        self._caches[first], self._caches[second] = self._caches[second], self._caches[first]

    def release(self, row: int) -> None:
        self._caches[row] = None


def _same_answers(batched: BatchedRunner, separate: SeparateRunner) -> bool:
    """Whether rows of different lengths give the same logits in one batch as each on its own.

    Some architectures take their positions from a mask that a shared buffer cannot give them.
    """
    token, prompts = 5, ([5, 6, 7, 8, 9], [9, 8, 7])
    try:
        results = []
        for runner in (batched, separate):
            for row, prompt in enumerate(prompts):
                runner.prefill(row, prompt, 0)
            results.append(runner.decode([token, token], [len(prompt) for prompt in prompts]))
            for row in range(len(prompts)):
                runner.release(row)
    except Exception:
        return False
    spread = float(results[1].std())
    return bool(np.abs(results[0] - results[1]).max() < 0.1 * spread)


def _last_only(model: Any) -> dict[str, int]:
    """Ask for the last token's logits alone, where the model's `forward` can be asked."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def _numpy(logits: torch.Tensor) -> Logits:
    return logits[:, -1].float().cpu().numpy()


def _end_tokens(generation: GenerationConfig | None, tokenizer: Any) -> frozenset[int]:
    given = generation.eos_token_id if generation else None
    listed = given if isinstance(given, list) else [given]
    return frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)


@contextmanager
def _clear_errors(path: str) -> Iterator[None]:
    """Say in one line what is wrong with a model; transformers' own messages are pages long."""
    try:
        yield
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EngineError(f"LOCAL_MODEL_PATH: the model {path} cannot be loaded: {line}") from error
