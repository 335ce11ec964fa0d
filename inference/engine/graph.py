"""The ONNX graph of a Llama-like decoder with 8-bit weights, written straight from a GGUF file.

The operators are onnxruntime's own: MatMulNBits multiplies 8-bit weights with activations rounded
to 8 bits a block, GroupQueryAttention keeps keys and values in buffers the caller owns. Reference:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inference.engine.gguf_blocks import Quantized, from_q4_1, from_q8_0, halves_apart, stack, widen

if TYPE_CHECKING:
    import onnx

CONTRIB = "com.microsoft"
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level
WIDE = frozenset({"embedding", "ffn_gate_up"})
"""Matrices in blocks of 64: fewer scales to read. The others lose too much that way."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    """The longest text it was trained on, in tokens."""
    rope_base: float
    norm_epsilon: float

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


class Weights:
    """The tensors of a GGUF file by name, brought into 8 bits one at a time."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        self._tensors = tensors

    def vector(self, name: str) -> npt.NDArray[np.float32]:
        return np.asarray(self._tensors[name].data, np.float32)

    def matrix(self, name: str) -> Quantized:
        """Raises ValueError for a block format that the packaged model does not use."""
        tensor = self._tensors[name]
        convert = {"Q8_0": from_q8_0, "Q4_1": from_q4_1}.get(tensor.tensor_type.name)
        if convert is None:
            raise ValueError(f"{name} has the block format {tensor.tensor_type.name}")
        return convert(np.asarray(tensor.data, np.uint8))


class DecoderGraph:
    """Builds the graph node by node; `keep(name, array)` stores a constant and returns its proto."""

    def __init__(
        self, shape: Shape, weights: Weights, keep: "Callable[[str, npt.NDArray[Any]], onnx.TensorProto]"
    ) -> None:
        self._shape = shape
        self._weights = weights
        self._keep = keep
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def build(self) -> "Iterator[int]":
        """Add the whole model and yield after each layer, so that a caller can show progress."""
        stream = self._embed()
        change = None
        self._rotary_tables()
        for layer in range(self._shape.layers):
            stream, change = self._layer(layer, stream, change)
            yield layer
        _, last = self._norm("output_norm", stream, change)
        self._head(last)

    def model(self) -> "onnx.ModelProto":
        """The finished model."""
        from onnx import helper

        graph = helper.make_graph(self._nodes, "decoder", *self._signature(), self._constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="llmsite")

    def _signature(self) -> "tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]":
        from onnx import TensorProto, helper

        value = helper.make_tensor_value_info
        inputs = [
            value("input_ids", TensorProto.INT64, ["rows", "new"]),
            value("last_positions", TensorProto.INT32, ["rows"]),
            value("longest", TensorProto.INT32, []),
        ]
        outputs = [value("logits", TensorProto.FLOAT, ["rows", 1, self._shape.vocabulary])]
        for name in cache_names(self._shape.layers):
            sizes = ["rows", self._shape.kv_heads, "capacity", self._shape.head_size]
            inputs.append(value(name, TensorProto.FLOAT, sizes))
            outputs.append(value(f"{name}.new", TensorProto.FLOAT, sizes))
        return inputs, outputs

    def _embed(self) -> str:
        table = self._weights.matrix("token_embd.weight")
        self._table = table = widen(table) if "embedding" in WIDE else table
        self._constant("embedding.values", table.values)
        # The output layer's matrix is the same table: the second name points at the same bytes.
        flat = type(self._constants[-1])()
        flat.CopyFrom(self._constants[-1])
        flat.name = "embedding.flat"
        flat.dims[:] = [table.rows, table.columns]
        self._constants.append(flat)
        self._constant("embedding.scales", table.scales)
        self._constant("embedding.zero_points", table.zero_points)
        inputs = [flat.name, "input_ids", "embedding.scales", "embedding.zero_points"]
        sizes = {"bits": 8, "block_size": table.block, "gather_axis": 0, "quantize_axis": 1}
        return self._node("GatherBlockQuantized", inputs, "embedded", CONTRIB, **sizes)

    def _rotary_tables(self) -> None:
        half = np.arange(0, self._shape.head_size, 2) / self._shape.head_size
        angles = np.outer(np.arange(self._shape.context), self._shape.rope_base**-half)
        self._constant("cosines", np.cos(angles).astype(np.float32))
        self._constant("sines", np.sin(angles).astype(np.float32))

    def _layer(self, number: int, stream: str, change: str | None) -> tuple[str, str]:
        """Attention and feed-forward; returns the residual stream and what is to be added to it."""
        name = f"blk.{number}"
        stream, normed = self._norm(f"{name}.attn_norm", stream, change)
        stream, normed = self._norm(f"{name}.ffn_norm", stream, self._attention(name, normed))
        return stream, self._feed_forward(name, normed)

    def _attention(self, name: str, x: str) -> str:
        shape = self._shape
        query, key, value = (self._weights.matrix(f"{name}.attn_{part}.weight") for part in "qkv")
        packed = stack([halves_apart(query, shape.heads), halves_apart(key, shape.kv_heads), value])
        both = [f"{name}.key", f"{name}.value"]
        # Keys and values are kept in 32 bits: with 16 the operator turns all of them into 32 in each step.
        x = self._linear(f"{name}.qkv", x, packed)
        inputs = [x, "", "", *both, "last_positions", "longest", "cosines", "sines"]
        outputs = [f"{name}.attended", *(f"{cache}.new" for cache in both)]
        heads = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, "do_rotary": 1}
        x = self._node("GroupQueryAttention", inputs, outputs, CONTRIB, **heads)
        output = self._weights.matrix(f"{name}.attn_output.weight")
        return self._linear(f"{name}.attn_output", x, output)

    def _feed_forward(self, name: str, x: str) -> str:
        both = stack([self._weights.matrix(f"{name}.ffn_{part}.weight") for part in ("gate", "up")])
        x = self._linear(f"{name}.ffn_gate_up", x, both)
        gate, up = f"{name}.gate", f"{name}.up"
        self._node("Split", [x], [gate, up], axis=-1, num_outputs=2)
        # With alpha 1 it is x * sigmoid(x), which is SiLU.
        gate = self._node("QuickGelu", [gate], f"{name}.silu", CONTRIB, alpha=1.0)
        x = self._node("Mul", [gate, up], f"{name}.gated")
        return self._linear(f"{name}.ffn_down", x, self._weights.matrix(f"{name}.ffn_down.weight"))

    def _head(self, x: str) -> None:
        # Only the last token of what was put in is asked for.
        self._constant("last", np.array([-1]))
        x = self._node("Gather", [x, "last"], "last_hidden", axis=1)
        self._product(x, "embedding", self._table, "logits")

    def _linear(self, name: str, x: str, matrix: Quantized) -> str:
        matrix = widen(matrix) if name.rpartition(".")[2] in WIDE else matrix
        self._constant(f"{name}.values", matrix.values)
        self._constant(f"{name}.scales", matrix.scales)
        self._constant(f"{name}.zero_points", matrix.zero_points)
        return self._product(x, name, matrix, f"{name}.product")

    def _product(self, x: str, name: str, matrix: Quantized, output: str) -> str:
        """`x` times the matrix whose constants are there under `name`."""
        inputs = [x, f"{name}.values", f"{name}.scales", f"{name}.zero_points"]
        sizes = {"K": matrix.columns, "N": matrix.rows, "bits": 8, "block_size": matrix.block}
        return self._node("MatMulNBits", inputs, output, CONTRIB, accuracy_level=INT8_ACTIVATIONS, **sizes)

    def _norm(self, name: str, stream: str, change: str | None) -> tuple[str, str]:
        """Add `change` to the residual stream, and return the stream and its RMS norm."""
        weight = self._constant(f"{name}.weight", self._weights.vector(f"{name}.weight"))
        epsilon = self._shape.norm_epsilon
        if change is None:
            inputs = [stream, weight]
            return stream, self._node("SimplifiedLayerNormalization", inputs, name, axis=-1, epsilon=epsilon)
        outputs = [name, "", "", f"{name}.stream"]
        self._node(
            "SkipSimplifiedLayerNormalization", [stream, change, weight], outputs, CONTRIB, epsilon=epsilon
        )
        return f"{name}.stream", name

    def _constant(self, name: str, array: npt.NDArray[Any]) -> str:
        self._constants.append(self._keep(name, array))
        return name

    def _node(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: str | list[str],
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add one node, named after its first output, and return that output."""
        from onnx import helper

        outputs = [outputs] if isinstance(outputs, str) else outputs
        node = helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        self._nodes.append(node)
        return outputs[0]


def cache_names(layers: int) -> list[str]:
    """The names of the key and value buffers, which are inputs; the outputs have `.new` after them."""
    return [f"blk.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
