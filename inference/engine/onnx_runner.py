"""Runs a prepared ONNX decoder on the processor with plain onnxruntime.

The key-value buffers are allocated once, and the same memory is bound as what the model reads and
what it writes, so no step copies them. Decoding binds the first rows of each buffer, reading a
prompt binds one row.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# onnxruntime sends telemetry by default, and this variable is the only thing that stops it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from inference.engine.graph import Shape, cache_names
from inference.engine.memory import lazy_bytes
from inference.engine.prepare import GRAPH
from inference.engine.runner import EngineError, Logits


@dataclass(slots=True)
class _Bound:
    """Rows that are bound to the model: `binding` reads these arrays and writes `logits`."""

    binding: Any
    last_positions: npt.NDArray[np.int32]
    longest: npt.NDArray[np.int32]
    logits: Logits


class OnnxRunner:
    """See Runner. `threads` is best the number of cores."""

    chunk = 64

    def __init__(self, folder: Path, shape: Shape, *, slots: int, context: int, threads: int) -> None:
        self.slots = slots
        self.context = min(context, shape.context)
        self._shape = shape
        self._session = _session(folder / GRAPH, threads)
        row = (shape.kv_heads, self.context, shape.head_size)
        self._cache = {name: _lazy_zeros((slots, *row)) for name in cache_names(shape.layers)}
        self._bound: dict[tuple[int, int], _Bound] = {}

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        return self._run(row, np.array([tokens], np.int64), [start])[0]

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Logits:
        return self._run(0, np.array(tokens, np.int64)[:, None], lengths)

    def swap(self, first: int, second: int, length: int) -> None:
        for cache in self._cache.values():
            kept = cache[first, :, :length].copy()
            cache[first, :, :length] = cache[second, :, :length]
            cache[second, :, :length] = kept

    def release(self, row: int) -> None:
        """Nothing to do: the next prompt is written over what the row holds."""

    def _run(self, first: int, tokens: npt.NDArray[np.int64], starts: Sequence[int]) -> Logits:
        """Write tokens of the shape (rows, new) from the rows' positions `starts` on."""
        rows, new = tokens.shape
        bound = self._bound.get((first, rows)) or self._bind(first, rows)
        bound.last_positions[:] = np.asarray(starts) + (new - 1)
        bound.longest[...] = bound.last_positions.max() + 1
        bound.binding.bind_cpu_input("input_ids", tokens)
        self._session.run_with_iobinding(bound.binding)
        return bound.logits[:, 0]

    def _bind(self, first: int, rows: int) -> _Bound:
        """Bind rows for good; only the tokens change from one step to the next."""
        bound = _Bound(
            self._session.io_binding(),
            np.empty(rows, np.int32),
            np.empty((), np.int32),
            np.empty((rows, 1, self._shape.vocabulary), np.float32),
        )
        bound.binding.bind_cpu_input("last_positions", bound.last_positions)
        bound.binding.bind_cpu_input("longest", bound.longest)
        _bind_memory(bound.binding.bind_output, "logits", bound.logits)
        for name, cache in self._cache.items():
            _bind_memory(bound.binding.bind_input, name, cache[first : first + rows])
            _bind_memory(bound.binding.bind_output, f"{name}.new", cache[first : first + rows])
        self._bound[first, rows] = bound
        return bound


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # A step is measurably faster with plain allocations.
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(f"onnxruntime cannot load {path}: {error}") from error


def _bind_memory(bind: Any, name: str, array: npt.NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _lazy_zeros(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    size = int(np.prod(shape))
    return np.frombuffer(lazy_bytes(size * 4), np.float32, count=size).reshape(shape)
