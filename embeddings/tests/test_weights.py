"""Which folders are taken for a model, and which are refused before anything of them is loaded."""

import json
import pickle
import shutil

import pytest

from embeddings.errors import EncoderError
from embeddings.weights import display_name, is_on_this_machine, model_folder


@pytest.fixture
def folder(tmp_path):
    """The packaged model's files, without what makes them large."""
    place = tmp_path / "model"
    shutil.copytree(model_folder("all-MiniLM-L6-v2"), place, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = {"__metadata__": {"format": "pt"}}
    head = json.dumps(weights).encode()
    (place / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    return place


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(folder):
    with pytest.raises(EncoderError) as caught:
        model_folder(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_the_packaged_model_has_both_of_its_names(name):
    assert (model_folder(name) / "model.safetensors").is_file()
    assert is_on_this_machine(name)
    assert display_name(name) == "all-MiniLM-L6-v2"


def test_a_folder_is_taken_and_named_after_its_last_part(folder):
    assert model_folder(str(folder)) == folder
    assert is_on_this_machine(str(folder))
    assert display_name(f"{folder}/") == "model"


def test_an_id_of_the_hub_is_kept_as_it_is():
    assert not is_on_this_machine("intfloat/multilingual-e5-small")
    assert display_name("intfloat/multilingual-e5-small") == "intfloat/multilingual-e5-small"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nothing", "a/b/c"])
def test_a_missing_folder_is_never_looked_for_on_the_hub(name):
    assert is_on_this_machine(name)
    assert "there is no model" in refused(name)


def test_weights_as_a_pickle_are_refused(folder, tmp_path):
    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    for place in (folder, folder / "2_Dense"):
        place.mkdir(exist_ok=True)
        (place / "pytorch_model.bin").write_bytes(pickle.dumps(Canary()))
    (folder / "model.safetensors").rename(folder / "2_Dense" / "model.safetensors")
    assert "pickle" in refused(folder)
    (folder / "2_Dense" / "model.safetensors").rename(folder / "model.safetensors")
    assert "2_Dense" in refused(folder)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_beside_safetensors_is_not_looked_at(folder):
    (folder / "pytorch_model.bin").write_bytes(b"x")

    assert model_folder(str(folder)) == folder


def test_code_of_the_models_own_is_refused(folder):
    change(folder / "config.json", auto_map={"AutoModel": "canary.Model"})
    assert "never run" in refused(folder)


def test_kernels_from_elsewhere_are_refused(folder):
    change(folder / "config.json", text_config={"_attn_implementation_internal": "somebody/kernel"})
    assert "never run" in refused(folder)


def test_a_module_from_outside_is_refused(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "os.system"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert "os.system" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer.json", "model.safetensors"])
def test_a_broken_file_is_named(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:5])

    assert str(folder / name) in refused(folder)
