"""Make the packaged model ready, once: GGUF in, an ONNX model with 8-bit weights out.

The result is a directory under MODELS_ROOT that is there whole or not at all.
"""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inference.engine import folders
from inference.engine.chatml import byte_level_bpe
from inference.engine.folders import MANIFEST
from inference.engine.graph import DecoderGraph, Shape, Weights
from inference.engine.packaged import PACKAGED_MODEL, packaged_gguf

if TYPE_CHECKING:
    import onnx

FORMAT = 2
"""Goes up whenever what is written here changes, so that an older directory is made again."""

GRAPH, WEIGHTS, TOKENIZER = "model.onnx", "model.onnx.data", "tokenizer.json"
BYTES_NEEDED = 200_000_000
ALIGNMENT = 4096
"""Constants start at whole memory pages, so that onnxruntime can map the file instead of reading it."""


def prepared_model(root: Path, *, progress: bool = False) -> Path:
    """The directory of the packaged model, made now if it is not there or not whole.

    Raises EngineError where it cannot be made; nothing is left behind then.
    """
    folder, source = root / PACKAGED_MODEL, packaged_gguf()
    return folders.made(
        folder,
        lambda new: convert(source, new, progress=progress),
        is_whole=partial(is_whole, folder, source),
        bytes_needed=BYTES_NEEDED,
    )


def is_whole(folder: Path, source: Path) -> bool:
    """Whether `folder` was made by this version from `source`, and every file is as it was written."""
    return folders.is_whole(folder, {"format": FORMAT, "source": _source(source)})


def read_shape(folder: Path) -> Shape:
    """The sizes of the prepared model in `folder`."""
    return Shape(**json.loads((folder / MANIFEST).read_text())["shape"])


def convert(source: Path, folder: Path, *, progress: bool = False) -> None:
    """Write the model in the GGUF file `source` into the empty `folder`. Takes about 5 s."""
    from gguf import GGUFReader

    reader = GGUFReader(str(source))
    shape = _shape(reader)
    with (folder / WEIGHTS).open("wb") as file:
        model = _build(shape, Weights({tensor.name: tensor for tensor in reader.tensors}), file, progress)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    tokenizer = byte_level_bpe(
        _field(reader, "tokenizer.ggml.tokens"), _field(reader, "tokenizer.ggml.merges")
    )
    tokenizer.save(str(folder / TOKENIZER))
    folders.write_manifest(folder, {"format": FORMAT, "source": _source(source), "shape": asdict(shape)})


def _build(shape: Shape, weights: Weights, file: Any, progress: bool) -> "onnx.ModelProto":
    from tqdm import tqdm

    def keep(name: str, array: npt.NDArray[Any]) -> "onnx.TensorProto":
        return _external(name, array, file)

    graph = DecoderGraph(shape, weights, keep)
    bar = tqdm(total=shape.layers, desc=f"Preparing {PACKAGED_MODEL}", unit="layer", disable=not progress)
    with bar:
        for _ in graph.build():
            bar.update()
    return graph.model()


def _external(name: str, array: npt.NDArray[Any], file: Any) -> "onnx.TensorProto":
    """Append an array to the weights' file and return the constant that points there."""
    from onnx import TensorProto, helper, numpy_helper

    if array.nbytes < ALIGNMENT:
        return numpy_helper.from_array(array, name)
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    place = {"location": WEIGHTS, "offset": file.tell(), "length": array.nbytes}
    file.write(np.ascontiguousarray(array).data)
    tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _shape(reader: Any) -> Shape:
    def number(key: str) -> Any:
        return _field(reader, f"llama.{key}")

    return Shape(
        layers=number("block_count"),
        hidden=number("embedding_length"),
        feed_forward=number("feed_forward_length"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv"),
        vocabulary=number("vocab_size"),
        context=number("context_length"),
        rope_base=number("rope.freq_base"),
        norm_epsilon=number("attention.layer_norm_rms_epsilon"),
    )


def _field(reader: Any, name: str) -> Any:
    return reader.fields[name].contents()


def _source(path: Path) -> dict[str, Any]:
    # The size stands for the content: the package's version is pinned, and 98 MB are not read at
    # every start only to learn that they are the same.
    return {"name": path.name, "bytes": path.stat().st_size}
