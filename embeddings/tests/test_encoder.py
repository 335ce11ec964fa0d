"""The packaged encoder itself."""

import numpy as np
import pytest

from embeddings import encoder as module
from embeddings.encoder import Encoder, computes_bfloat16, in_16_bits, load_encoder
from embeddings.errors import EncoderError
from embeddings.weights import model_folder

TEXTS = [
    "A cat sleeps on the warm roof.",
    "On the warm roof a cat is asleep.",
    "The interest rate was raised by half a percent.",
    "¿Dónde comenzó la Segunda Guerra Mundial?",
    "word " * 400,
]


@pytest.fixture(scope="session")
def packaged():
    import torch

    torch.set_num_threads(1)  # Threads that wait for each other are slow beside other tests.
    return load_encoder("all-MiniLM-L6-v2", device="cpu")


@pytest.fixture(scope="session")
def bare(packaged):
    """The same weights, as the library loads them by itself."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model_folder("all-MiniLM-L6-v2")), device="cpu", local_files_only=True)


def test_it_says_what_it_is(packaged):
    assert (packaged.name, packaged.dimensions, packaged.window) == ("all-MiniLM-L6-v2", 384, 256)


def test_the_vectors_are_those_of_sentence_transformers(packaged, bare):
    ours = packaged.encode(TEXTS, "passage")
    theirs = bare.encode(TEXTS)

    assert ours.dtype == np.float32
    assert (ours * theirs).sum(axis=1).min() > 0.9999


def test_each_vector_has_length_one_and_does_not_depend_on_its_batch(packaged):
    together = packaged.encode(TEXTS, "passage")
    alone = np.concatenate([packaged.encode([text], "passage") for text in TEXTS])

    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert (together * alone).sum(axis=1).min() > 0.9999


def test_near_meanings_are_near(packaged):
    cat, other_cat, rate, *_ = packaged.encode(TEXTS, "passage")

    assert cat @ other_cat > 0.8
    assert cat @ rate < 0.3


def test_tokens_are_counted_uncut_and_as_the_model_counts_them(packaged, bare):
    counted = packaged.lengths(TEXTS, "passage")

    read = bare.preprocess(TEXTS)["attention_mask"].sum(axis=1).tolist()
    assert [min(length, packaged.window) for length in counted] == read
    assert counted[-1] == 402


def test_what_stands_behind_the_window_is_not_read(packaged):
    long = "word " * 300
    first, second = packaged.encode([long + "cat", long + "interest rate"], "passage")

    assert np.allclose(first, second, atol=1e-6)


def test_a_model_that_wants_words_before_a_text_gets_them(bare):
    bare.prompts = {"query": "query: ", "document": "passage: "}
    try:
        encoder = Encoder(bare, name="prompted", device="cpu")
    finally:
        bare.prompts = {"query": "", "document": ""}
    query, passage = (encoder.encode(["cat"], kind)[0] for kind in ("query", "passage"))

    assert np.allclose(query, bare.encode(["query: cat"])[0], atol=1e-5)
    assert np.allclose(passage, bare.encode(["passage: cat"])[0], atol=1e-5)
    assert encoder.lengths(["cat"], "query") == [5]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("intfloat/multilingual-e5-small", "query: "),
        ("e5-base-v2", "query: "),
        ("intfloat/e5-mistral-7b-instruct", ""),
        ("all-MiniLM-L6-v2", ""),
    ],
)
def test_a_family_that_does_not_say_which_words_it_wants_gets_them_too(bare, name, query):
    encoder = Encoder(bare, name=name, device="cpu")

    assert np.allclose(encoder.encode(["cat"], "query"), bare.encode([f"{query}cat"]), atol=1e-5)


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_16_bits_are_for_processors_that_compute_them(monkeypatch, packaged, instruction):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not computes_bfloat16("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instruction: True})
    assert computes_bfloat16("cpu")


def test_16_bits_are_taken_where_they_are_as_good(monkeypatch, bare):
    exact = Encoder(bare, name="bare", device="cpu")

    half = in_16_bits(exact, bare)
    assert (half.dtype, half.name, next(bare.parameters()).dtype.itemsize) == ("bfloat16", "bare", 4)
    monkeypatch.setattr(module, "AS_GOOD", 0.9999999)
    assert in_16_bits(exact, bare) is exact


def test_an_absent_device_is_one_clear_line():
    with pytest.raises(EncoderError, match="DEVICE is mps"):
        load_encoder("all-MiniLM-L6-v2", device="mps")
