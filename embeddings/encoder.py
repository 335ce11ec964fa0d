"""A sentence-transformers model: texts in, vectors of length one out."""

import copy
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embeddings.errors import EncoderError
from embeddings.texts import Kind
from embeddings.weights import display_name, model_folder
from llmsite.core.devices import DeviceMissing, torch_device

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = npt.NDArray[np.float32]
"""(texts, dimensions)"""

PROMPTS: dict[Kind, tuple[str, ...]] = {"query": ("query",), "passage": ("passage", "document")}
"""What models call the words that they want before a text of each kind, if they want any."""

E5 = re.compile(r"(multilingual-)?e5-(small|base|large)")

AS_GOOD = 0.9999
"""The least cosine between vectors of 16 and of 32 bits for the former to be taken."""
PROBE = (
    "Hello",
    "How do I change the password of my account?",
    "¿Cuál es la capital de Francia y cuántos habitantes tenía en 1990?",
    "The committee did not approve 3 of the 27 proposals, although each of them had been revised twice. " * 3,
)


class Encoder:
    """A loaded model. `encode` is for one thread; `lengths` may be called from any."""

    def __init__(self, model: "SentenceTransformer", *, name: str, device: str) -> None:
        self.name = name
        self.device = device
        self.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        self.dimensions = int(model.get_embedding_dimension() or 0)
        self.window: int = model.max_seq_length or 1 << 30
        """Tokens of a text that the model reads; it does not see what comes after them."""
        self._model = model
        prompts = model.prompts if any(model.prompts.values()) else unwritten_prompts(name)
        self._prompts = {kind: _prompt(prompts, names) for kind, names in PROMPTS.items()}
        # A tokenizer that cuts texts is changed by each call, so counting has one of its own.
        self._counter: Any = copy.deepcopy(model.tokenizer)

    def lengths(self, texts: Sequence[str], kind: Kind) -> list[int]:
        """The tokens of each text, with the model's marks and prompt, as if the window had no end."""
        prompt = self._prompts[kind]
        ids = self._counter(
            [prompt + text for text in texts],
            truncation=False,
            padding=False,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        return [len(one) for one in ids]

    def encode(self, texts: Sequence[str], kind: Kind) -> Vectors:
        """One batch through the model."""
        found = self._model.encode(
            list(texts),
            prompt=self._prompts[kind],
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        # In 16 bits a vector that the model has normalised is up to half a percent off.
        vectors = np.asarray(found, dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def unwritten_prompts(name: str) -> dict[str, str]:
    """What a family of models was trained with, though its files do not say so."""
    family = name.rsplit("/", 1)[-1]
    return {"query": "query: ", "passage": "passage: "} if E5.match(family) else {}


def load_encoder(name: str, *, device: str) -> Encoder:
    """Load the model of EMBEDDING_MODEL, and run it once. Raises EncoderError."""
    folder = model_folder(name)
    try:
        device = torch_device(device)
    except DeviceMissing as error:
        raise EncoderError(str(error)) from error
    try:
        model = _load(str(folder), device)
    except Exception as error:  # Each kind of damage raises another class in the libraries below.
        raise EncoderError(f"EMBEDDING_MODEL: {folder} cannot be loaded: {_first_line(error)}") from error
    exact = Encoder(model, name=display_name(name), device=device)
    return in_16_bits(exact, model) if computes_bfloat16(device) else exact


def computes_bfloat16(device: str) -> bool:
    """Whether 16 bits are faster than 32 there: processors without such instructions only emulate them."""
    import torch

    if device == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def in_16_bits(exact: Encoder, model: "SentenceTransformer") -> Encoder:
    """The same model in bfloat16 where its vectors are as good, else `exact`."""
    import torch

    half = Encoder(copy.deepcopy(model).to(torch.bfloat16), name=exact.name, device=exact.device)
    cosines = [(exact.encode([text], "passage") * half.encode([text], "passage")).sum() for text in PROBE]
    return half if min(cosines) >= AS_GOOD else exact


def _load(folder: str, device: str) -> "SentenceTransformer":
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    return SentenceTransformer(
        folder,
        device=device,
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    ).eval()


def _prompt(prompts: dict[str, str], names: Sequence[str]) -> str:
    return next((prompts[name] for name in names if prompts.get(name)), "")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
