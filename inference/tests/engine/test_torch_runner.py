"""The general engine, on tiny random models made here."""

import json

import numpy as np
import pytest

from inference.engine.chat import Message
from inference.engine.load import load
from inference.engine.runner import EngineError
from inference.engine.scheduler import Generation
from inference.tests.engine.test_scheduler import Answer

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
QUESTION = "What is the capital of France?"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer():
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from inference.engine.chatml import byte_level_bpe

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(sorted(pre_tokenizers.ByteLevel.alphabet()), [])
    )
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(folder, kind="Llama", **changes):
    """A random model with a tokenizer of bytes, saved as safetensors."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **{**SIZES, **changes})
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def open_model(tmp_path):
    """Loads models and closes them at the end."""
    opened = []

    def open_it(path, device="cpu"):
        opened.append(load(path=str(path), device=device, models_root=tmp_path))
        return opened[-1]

    yield open_it
    for model in opened:
        model.scheduler.close()


def prompts(model):
    texts = ("a", "Hello there", "a longer prompt " * 3)
    return [
        [token for part in model.tokenizer.prompt([Message("user", text)]) for token in part]
        for text in texts
    ]


def answers(model):
    jobs = [Answer(model.scheduler, Generation(prompt=prompt, max_tokens=10)) for prompt in prompts(model)]
    return [job.read() for job in jobs]


def expected(folder, model):
    """What transformers' own `generate` writes for each prompt alone."""
    import torch
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder)
    texts = []
    for prompt in prompts(model):
        ids = torch.tensor([prompt])
        written = reference.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False
        )
        texts.append(model.tokenizer.decode(written[0][len(prompt) :].tolist()))
    return texts


def test_a_directory_answers_in_a_batch_as_transformers_does_alone(folder, open_model):
    model = open_model(folder)
    assert (model.name, model.device, model.engine, model.context) == ("tiny-llama", "cpu", "torch", 96)
    assert type(model.scheduler._runner).__name__ == "BatchedRunner"
    assert [text for text, _ in answers(model)] == expected(folder, model)


def test_a_model_with_sliding_windows_does_so_too_with_a_cache_for_each_row(tmp_path, open_model):
    folder = make_model(tmp_path / "tiny-mistral", "Mistral", sliding_window=8)
    model = open_model(folder)
    assert type(model.scheduler._runner).__name__ == "SeparateRunner"
    assert [text for text, _ in answers(model)] == expected(folder, model)


def test_the_prompt_is_the_models_own_template(folder, open_model):
    tokenizer = open_model(folder).tokenizer
    messages = [Message("system", "Be kind."), Message("user", " Hi é ")]
    parts = tokenizer.prompt(messages)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    own = make_tokenizer().apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert [token for part in parts for token in part] == own
    assert all(parts)


MARKS = (
    "<|im_end|>",
    "<|im_start|>system",
    "<|im_end|>\n<|im_start|>assistant\n",
    "[INST]",
    "<|end|>",
    '{"role": "system"}',
)


def test_special_tokens_in_a_message_are_plain_text(folder, open_model):
    tokenizer = open_model(folder).tokenizer
    special = set(make_tokenizer().added_tokens_decoder)
    for mark in MARKS:
        text = f"a {mark} b"
        parts = tokenizer.prompt([Message("user", text)])
        assert sum(token in special for token in parts[0]) == 3, mark
        assert not special & set(tokenizer.encode(text)), mark
        assert text in tokenizer.decode(parts[0]), mark


def test_a_template_that_refuses_is_told(tmp_path, folder, open_model):
    model = open_model(folder)
    model.tokenizer._template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ValueError, match="roles must alternate"):
        model.tokenizer.prompt([Message("user", "Hi")])


def test_a_model_without_a_template_gets_a_plain_one(tmp_path, folder, open_model):
    tokenizer = open_model(folder).tokenizer
    from inference.engine.hf_chat import HuggingFaceChat

    own = make_tokenizer()
    own.chat_template = None
    parts = HuggingFaceChat(own, tokenizer.end_tokens).prompt([Message("user", "Hi")])
    assert own.decode(parts[0]) == "user: Hi\n\nassistant:"


def broken(tmp_path, folder, change):
    copy = tmp_path / "broken"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda path: (path / "config.json").unlink(), "config.json"),
        (lambda path: (path / "config.json").write_text("{"), "config.json"),
        (lambda path: (path / "model.safetensors").unlink(), "model.safetensors"),
        (lambda path: (path / "model.safetensors").write_bytes(b"short"), "model.safetensors"),
        (lambda path: (path / "tokenizer.json").write_text("{"), "tokenizer.json"),
    ],
)
def test_a_broken_directory_is_told_in_one_line_with_the_file(tmp_path, folder, open_model, change, named):
    path = broken(tmp_path, folder, change)
    with pytest.raises(EngineError) as caught:
        open_model(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/no/such/model", "./no-such-model", "no-such-model.gguf"])
def test_a_path_that_is_not_there_is_told_without_asking_the_hub(open_model, path):
    with pytest.raises(EngineError, match="there is no model"):
        open_model(path)


def test_pickled_weights_are_refused(tmp_path, folder, open_model):
    import torch

    def pickle_weights(path):
        (path / "model.safetensors").unlink()
        torch.save({}, path / "pytorch_model.bin")

    with pytest.raises(EngineError, match="cannot be loaded"):
        open_model(broken(tmp_path, folder, pickle_weights))


def test_code_that_comes_with_a_model_is_not_run(tmp_path, folder, open_model):
    def add_code(path):
        config = json.loads((path / "config.json").read_text())
        config |= {
            "model_type": "evil",
            "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.M"},
        }
        (path / "config.json").write_text(json.dumps(config))
        (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(EngineError, match="cannot be loaded"):
        open_model(broken(tmp_path, folder, add_code))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_an_absent_device_is_told(open_model, device):
    import torch

    if getattr(torch, "cuda" if device == "cuda" else "mps").is_available():
        device = "mps" if device == "cuda" else "cuda"
    with pytest.raises(EngineError, match=f"DEVICE is {device}"):
        open_model("", device)


@pytest.mark.slow
def test_the_packaged_gguf_runs_on_torch_with_nearly_the_same_logits(models_root, open_model):
    from inference.engine.prepare import packaged_gguf

    general = open_model(packaged_gguf())
    fast = load(path="", device="cpu", models_root=models_root)
    prompt = [token for part in fast.tokenizer.prompt([Message("user", QUESTION)]) for token in part]
    logits = [model.scheduler._runner.prefill(0, prompt, 0).copy() for model in (general, fast)]
    fast.scheduler.close()
    assert logits[0].argmax() == logits[1].argmax()
    assert np.corrcoef(*logits)[0, 1] > 0.99


def test_the_engine_is_not_imported_by_the_site(run_python):
    script = (
        "import os, sys; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'llmsite.settings');"
        "import django; django.setup(); import llmsite.asgi;"
        "print([name for name in sys.modules if name.startswith('inference.engine.')])"
    )
    assert run_python(script).strip() == "[]"
