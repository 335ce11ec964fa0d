"""Adapters added to the weights of tiny random models."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from inference.adapter_files import AdapterRefused, seal, verify
from inference.engine import memory
from inference.engine.chat import Message
from inference.engine.load import load, load_adapter
from inference.engine.runner import EngineError
from inference.engine.scheduler import Generation
from inference.tests.engine.test_scheduler import Answer
from inference.tests.tiny import make_adapter, make_model, written_by_peft

BASE = SimpleNamespace(name="tiny", sha256="b" * 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="module")
def base(folder):
    model = load(path=str(folder), device="cpu", models_root=folder)
    yield model
    model.scheduler.close()


@pytest.fixture
def open_adapter(base, folder):
    opened = []

    def open_it(adapter, **changes):
        files = verify(adapter, seal(adapter, base=BASE).sha256)
        opened.append(load_adapter("tiny-1", dataclasses.replace(files, **changes), folder, base))
        return opened[-1]

    yield open_it
    for model in opened:
        model.scheduler.close()


def prompt_of(model, text):
    return [token for part in model.tokenizer.prompt([Message("user", text)]) for token in part]


def written(model, prompt):
    return Answer(model.scheduler, Generation(prompt=prompt, max_tokens=12)).read()[0]


@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"target_modules": ["gate_proj"], "r": 1}])
def test_it_answers_as_peft_does(tmp_path, folder, base, open_adapter, config):
    adapter = make_adapter(tmp_path / "adapter", folder, **config)
    prompt = prompt_of(base, "What is the capital of France?")
    expected = base.tokenizer.decode(written_by_peft(folder, adapter, prompt, tokens=12))

    model = open_adapter(adapter)
    assert written(model, prompt) == expected != written(base, prompt)


def test_it_runs_where_and_as_its_base_model_does(tmp_path, folder, base, open_adapter):
    model = open_adapter(make_adapter(tmp_path / "adapter", folder))
    for name in ("device", "context", "slots", "frequency_penalty"):
        assert getattr(model, name) == getattr(base, name)
    assert (model.name, model.engine) == ("tiny-1", "torch")


def refusal(open_adapter, adapter, **changes):
    with pytest.raises(AdapterRefused) as refused:
        open_adapter(adapter, **changes)
    return refused.value.code


def test_an_adapter_of_another_architecture_is_refused(tmp_path, open_adapter):
    other = make_model(tmp_path / "other", kind="Phi")
    adapter = make_adapter(tmp_path / "adapter", other, target_modules=["fc1"])
    assert refusal(open_adapter, adapter) == "architecture"


def test_an_adapter_for_layers_of_another_size_is_refused(tmp_path, open_adapter):
    other = make_model(tmp_path / "other", hidden_size=64)
    assert refusal(open_adapter, make_adapter(tmp_path / "adapter", other)) == "architecture"


def test_an_adapter_for_more_layers_is_refused(tmp_path, open_adapter):
    other = make_model(tmp_path / "other", num_hidden_layers=3)
    assert refusal(open_adapter, make_adapter(tmp_path / "adapter", other)) == "architecture"


@pytest.mark.parametrize("layer", ["model.norm", "model.embed_tokens", "model.layers.0", "model.nothing"])
def test_an_adapter_of_what_is_no_linear_layer_is_refused(tmp_path, folder, open_adapter, layer):
    halves = {"A": np.zeros((2, 32), np.float32), "B": np.zeros((258, 2), np.float32)}
    weights = save({f"base_model.model.{layer}.lora_{half}.weight": array for half, array in halves.items()})
    adapter = make_adapter(tmp_path / "adapter", folder)
    assert refusal(open_adapter, adapter, weights=weights) == "architecture"


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings")
def test_a_layer_that_is_the_embedding_too_is_refused(tmp_path):
    tied = make_model(tmp_path / "tied", tie_word_embeddings=True)
    adapter = make_adapter(tmp_path / "adapter", tied, target_modules=["lm_head"])
    files = verify(adapter, seal(adapter, base=BASE).sha256)
    model = load(path=str(tied), device="cpu", models_root=tmp_path)
    try:
        with pytest.raises(AdapterRefused, match="embedding"):
            load_adapter("tiny-1", files, tied, model)
    finally:
        model.scheduler.close()


def test_numbers_of_a_training_that_went_astray_are_refused(tmp_path, folder, open_adapter):
    adapter = make_adapter(tmp_path / "adapter", folder)
    assert refusal(open_adapter, adapter, scaling=float("inf")) == "broken"


def test_one_for_which_there_is_no_memory_is_refused_before_it_is_loaded(
    tmp_path, folder, open_adapter, monkeypatch
):
    adapter = make_adapter(tmp_path / "adapter", folder)
    size = (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr("inference.engine.load.free_bytes", lambda: size)
    with pytest.raises(EngineError, match="no memory for an adapter"):
        open_adapter(adapter)
    monkeypatch.setattr("inference.engine.load.free_bytes", lambda: 2 * size)
    open_adapter(adapter)


def test_free_memory_is_what_the_machine_and_the_container_still_have(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_bytes() is None
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert memory.free_bytes() == 50 * 1024
    for name, text in {"max": "30000", "current": "20000", "stat": "file 9000\ninactive_file 5000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes() == 15_000
    (tmp_path / "memory.max").write_text("max")
    assert memory.free_bytes() == 50 * 1024
