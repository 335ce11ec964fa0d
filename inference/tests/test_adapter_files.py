"""What may lie in an adapter's folder, and that nobody changes it afterwards."""

import json
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from inference.adapter_files import CONFIG, MANIFEST, MOST_RANK, WEIGHTS, AdapterRefused, seal, verify

BASE = SimpleNamespace(name="owner/tiny model", sha256="b" * 64)
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
PLAIN = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
}


def tensors(rank=2):
    first, second = np.ones((rank, 4), np.float32), np.ones((6, rank), np.float32)
    return {f"{LAYER}.lora_A.weight": first, f"{LAYER}.lora_B.weight": second}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "adapter"
    place.mkdir()
    (place / CONFIG).write_text(json.dumps(PLAIN))
    (place / WEIGHTS).write_bytes(save(tensors()))
    (place / "README.md").write_text("# An adapter")
    return place


def refusal(call):
    with pytest.raises(AdapterRefused) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1
    return refused.value.code


def test_what_was_sealed_is_given_out(folder):
    sealed = seal(folder, base=BASE, run="r1")
    assert sealed.name == f"owner-tiny-model-{sealed.sha256[:12]}"

    files = verify(folder, sealed.sha256, base_sha256=BASE.sha256)
    assert (files.rank, files.scaling) == (2, 4.0)
    assert files.weights == (folder / WEIGHTS).read_bytes()


def test_the_name_is_the_content_and_the_training(folder):
    first = seal(folder, base=BASE, run="r1")
    assert seal(folder, base=BASE, run="r1") == first
    assert seal(folder, base=BASE, run="r2") != first
    (folder / "README.md").write_text("# Another")
    assert seal(folder, base=BASE, run="r1") != first


def test_rank_stabilised_lora_is_scaled_by_the_root(folder):
    (folder / CONFIG).write_text(json.dumps({**PLAIN, "use_rslora": True}))
    sealed = seal(folder, base=BASE)
    assert verify(folder, sealed.sha256).scaling == pytest.approx(8 / 2**0.5)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST, "README.md"])
def test_one_changed_byte_is_refused(folder, name):
    sealed = seal(folder, base=BASE)
    path = folder / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    assert refusal(lambda: verify(folder, sealed.sha256)) == "changed"


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST, "README.md"])
def test_a_missing_file_is_refused(folder, name):
    sealed = seal(folder, base=BASE)
    (folder / name).unlink()
    assert refusal(lambda: verify(folder, sealed.sha256)) == "missing"


def test_a_missing_folder_is_refused(tmp_path):
    assert refusal(lambda: verify(tmp_path / "nothing", "0" * 64)) == "missing"
    assert refusal(lambda: seal(tmp_path / "nothing", base=BASE)) == "missing"


def test_a_link_is_refused(folder, tmp_path):
    sealed = seal(folder, base=BASE)
    (folder / WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    assert refusal(lambda: verify(folder, sealed.sha256)) == "missing"


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST, "README.md"])
def test_a_pipe_is_refused_and_not_waited_at(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert refusal(lambda: seal(folder, base=BASE)) == "missing"


def test_a_link_to_a_folder_is_refused(folder, tmp_path):
    sealed = seal(folder, base=BASE)
    (tmp_path / "link").symlink_to(folder)
    assert refusal(lambda: verify(tmp_path / "link", sealed.sha256)) == "missing"
    assert refusal(lambda: seal(tmp_path / "link", base=BASE)) == "missing"


def test_other_weights_of_the_base_model_are_refused(folder):
    sealed = seal(folder, base=BASE)
    assert refusal(lambda: verify(folder, sealed.sha256, base_sha256="c" * 64)) == "other_base"


class Canary:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "name",
    ["adapter_model.bin", "pytorch_model.bin", "rng_state.pth", "optimizer.pt", "model.py",
     "chat_template.jinja", "tokenizer.json", ".hidden"],
)  # fmt: skip
@pytest.mark.parametrize("when", ["before it is sealed", "after it was sealed"])
def test_a_file_that_is_none_of_an_adapters_is_refused(folder, tmp_path, name, when):
    sealed = seal(folder, base=BASE) if when == "after it was sealed" else None
    (folder / name).write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    check = (lambda: verify(folder, sealed.sha256)) if sealed else (lambda: seal(folder, base=BASE))
    assert refusal(check) == "foreign_file"
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_the_name_of_the_weights_is_refused(folder, tmp_path):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    assert refusal(lambda: seal(folder, base=BASE)) == "broken"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"peft_type": "IA3"}, "not_lora"),
        ({"peft_type": None}, "not_lora"),
        ({"use_dora": True}, "not_lora"),
        ({"bias": "all"}, "not_lora"),
        ({"modules_to_save": ["lm_head"]}, "not_lora"),
        ({"rank_pattern": {"q_proj": 4}}, "not_lora"),
        ({"fan_in_fan_out": True}, "not_lora"),
        ({"target_modules": "(a+)+$"}, "not_lora"),
        ({"target_modules": ["(a+)+$"]}, "not_lora"),
        ({"target_modules": None}, "not_lora"),
        # peft would import what these name.
        ({"megatron_core": "os"}, "not_lora"),
        ({"megatron_config": {"x": 1}, "megatron_core": "evil"}, "not_lora"),
        ({"auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"}}, "not_lora"),
        ({"something_new": True}, "not_lora"),
        ({"r": 0}, "rank"),
        ({"r": MOST_RANK + 1}, "rank"),
        ({"r": "2"}, "rank"),
        ({"r": 3}, "rank"),
        ({"lora_alpha": None}, "broken"),
        ({"lora_alpha": float("nan")}, "broken"),
    ],
)
def test_only_plain_lora_is_taken(folder, change, code):
    (folder / CONFIG).write_text(json.dumps({**PLAIN, **change}))
    assert refusal(lambda: seal(folder, base=BASE)) == code


def test_a_rank_that_is_too_big_is_refused(folder):
    (folder / CONFIG).write_text(json.dumps({**PLAIN, "r": MOST_RANK + 1}))
    (folder / WEIGHTS).write_bytes(save(tensors(MOST_RANK + 1)))
    assert refusal(lambda: seal(folder, base=BASE)) == "rank"


@pytest.mark.parametrize("text", ["{", "[]", "", "null"])
def test_a_broken_configuration_is_refused(folder, text):
    (folder / CONFIG).write_text(text)
    assert refusal(lambda: seal(folder, base=BASE)) == "broken"


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        (b"", "broken"),
        (save({})[:9], "broken"),
        (save({}), "broken"),
        (save(tensors(rank=3)), "rank"),
        (save({name: array for name, array in tensors().items() if "lora_A" in name}), "broken"),
        (save({name: array.astype(np.int64) for name, array in tensors().items()}), "broken"),
        (save({name: array[None] for name, array in tensors().items()}), "broken"),
        (save({**tensors(), "base_model.model.lm_head.weight": np.ones(2)}), "not_lora"),
        (save({**tensors(), f"{LAYER}.lora_magnitude_vector": np.ones(2)}), "not_lora"),
    ],
)
def test_weights_that_are_not_those_of_plain_lora_are_refused(folder, weights, code):
    (folder / WEIGHTS).write_bytes(weights)
    assert refusal(lambda: seal(folder, base=BASE)) == code
