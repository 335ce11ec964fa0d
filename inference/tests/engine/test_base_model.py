"""Which weights are served: the same for everybody who asks, and others as soon as a byte of them is."""

import json
import os

import pytest

from inference.engine import base_model as module
from inference.engine import folders
from inference.engine.base_model import DIGESTS, base_model, weights_folder
from inference.engine.chat import Message
from inference.engine.packaged import PACKAGED_MODEL, packaged_gguf
from inference.engine.prepare import TOKENIZER, prepared_model
from inference.engine.runner import EngineError


@pytest.fixture
def folder(tmp_path):
    """What counts as a model's folder here: nothing of it is loaded."""
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (place / "README.md").write_text("A model.")
    return place


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def reads(monkeypatch):
    """The files whose content was read."""
    read, digest = [], folders.digest
    monkeypatch.setattr(folders, "digest", lambda path: read.append(path.name) or digest(path))
    return read


def test_a_folder_is_called_as_the_engine_calls_it(folder, root):
    for path in (str(folder), f"{folder}/"):
        model = base_model(path, root)
        assert (model.name, model.source) == ("tiny", folder)
    assert weights_folder(model, root) == folder


def test_a_file_is_called_without_its_ending(tmp_path, root):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    assert base_model(str(tmp_path / "tiny.gguf"), root).name == "tiny"


def test_the_packaged_model_needs_no_path(root):
    model = base_model("", root)
    assert (model.name, model.source) == (PACKAGED_MODEL, packaged_gguf())


def test_it_is_read_once(folder, root, reads):
    first = base_model(str(folder), root)
    assert sorted(reads) == ["config.json", "model.safetensors"]
    assert base_model(str(folder), root) == first
    assert len(reads) == 2


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_another_byte_is_another_model_even_with_the_size_and_time_of_before(folder, root, name):
    before, stat = base_model(str(folder), root), (folder / name).stat()
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b" ")
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert base_model(str(folder), root).sha256 != before.sha256


def test_a_file_that_is_added_or_called_otherwise_makes_another_model(folder, root):
    seen = {base_model(str(folder), root).sha256}
    (folder / "tokenizer.json").write_text("{}")
    seen.add(base_model(str(folder), root).sha256)
    (folder / "tokenizer.json").rename(folder / "other.json")
    seen.add(base_model(str(folder), root).sha256)
    assert len(seen) == 3


def test_what_is_no_part_of_the_model_changes_nothing(folder, root):
    before = base_model(str(folder), root)
    (folder / "README.md").write_text("Another text.")
    assert base_model(str(folder), root) == before


def test_it_works_where_nothing_can_be_written_and_with_a_broken_list(folder, root, tmp_path):
    expected = base_model(str(folder), root)
    (root / DIGESTS).write_text("{")
    assert base_model(str(folder), root) == expected
    (tmp_path / "file").write_text("")
    assert base_model(str(folder), tmp_path / "file" / "models") == expected


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/no/such/model", "there is no model"),
        ("./no-such-model", "there is no model"),
        ("no-such-model.gguf", "there is no model"),
        ("nobody/never-fetched", "not on this machine yet"),
    ],
)
def test_what_is_not_here_is_told_without_asking_the_hub(root, path, said):
    with pytest.raises(EngineError, match=said):
        base_model(path, root)


def test_an_empty_folder_is_told(tmp_path, root):
    with pytest.raises(EngineError, match="is no model"):
        base_model(str(tmp_path), root)


def test_a_folder_that_could_run_code_is_not_given_out(folder, root):
    (folder / "rng_state.pth").write_bytes(b"")
    with pytest.raises(EngineError, match="can run code"):
        weights_folder(base_model(str(folder), root), root)


@pytest.fixture
def gguf(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" * 100)
    return path


def test_a_file_is_dequantized_once_and_again_where_a_byte_of_it_changed(gguf, root, monkeypatch):
    made = []

    def dequantize(_source, folder, facts):
        made.append(folder)
        (folder / "config.json").write_text("{}")
        folders.write_manifest(folder, facts)

    monkeypatch.setattr(module, "_dequantize", dequantize)
    folder = weights_folder(base_model(str(gguf), root), root)
    assert weights_folder(base_model(str(gguf), root), root) == folder
    assert len(made) == 1

    (folder / "config.json").write_text("[]")
    assert weights_folder(base_model(str(gguf), root), root) == folder
    assert (json.loads((folder / "config.json").read_text()), len(made)) == ({}, 2)


def test_a_file_that_is_no_model_is_told_in_one_line_and_leaves_nothing(gguf, root):
    with pytest.raises(EngineError) as refused:
        weights_folder(base_model(str(gguf), root), root)
    assert "cannot be dequantized" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in root.iterdir()] == [DIGESTS]


def test_what_a_page_imports_for_it_is_no_torch(run_python, root):
    script = (
        "import sys; from pathlib import Path; from inference.engine.base_model import base_model;"
        f"base_model('', Path({str(root)!r}));"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    assert run_python(script).strip() == "[]"


MESSAGES = [
    [Message("user", "What is the capital of France?")],
    [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello.\n"),
        Message("user", " Bye"),
    ],
]


@pytest.mark.slow
def test_the_packaged_models_folder_reads_a_conversation_as_the_engine_does(models_root):
    """What is trained on these tokens is asked with the same."""
    from transformers import AutoTokenizer

    from inference.engine.chatml import ChatMLTokenizer

    folder = weights_folder(base_model("", models_root), models_root)
    theirs = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    ours = ChatMLTokenizer.from_file(prepared_model(models_root) / TOKENIZER)
    for messages in MESSAGES:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        tokens = theirs.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert tokens == [token for part in ours.prompt(messages) for token in part]
    assert theirs.eos_token_id in ours.end_tokens
