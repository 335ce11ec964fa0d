"""The general engine, on tiny random models made here."""

import json
import os
import pickle

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


class Canary:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def write_pickle(path, canary):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(Canary(canary)))


def change_json(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "rng_state.pth",
        "optimizer.pt",
        "training_args.bin",
        "model.pkl",
        "checkpoint-1/a.pt",
    ],
)
@pytest.mark.parametrize("beside_safetensors", [True, False])
def test_a_pickle_is_refused_before_anything_is_read(
    tmp_path, folder, open_model, no_loading, name, beside_safetensors
):
    def add(path):
        write_pickle(path / name, tmp_path / "ran")
        if not beside_safetensors:
            (path / "model.safetensors").unlink()

    with pytest.raises(EngineError, match=f"{name} is of a kind that can run code"):
        open_model(broken(tmp_path, folder, add))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "entries", "said"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "evil.Config"}}, "code of the model's own"),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["evil.T", None]}},
            "code of the model's own",
        ),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "evil.C"}}}, "code of the model's own"),
        ("config.json", {"_attn_implementation_internal": "evil/kernel"}, "kernels from elsewhere"),
        ("config.json", {"attn_implementation": "https://evil.example/k"}, "kernels from elsewhere"),
        ("generation_config.json", {"experts_implementation": {"": "evil/kernel"}}, "kernels from elsewhere"),
    ],
)
def test_code_that_a_model_asks_for_is_refused_before_anything_is_read(
    tmp_path, folder, open_model, no_loading, file, entries, said
):
    def change(path):
        change_json(path / file, **entries)
        (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(EngineError, match=said):
        open_model(broken(tmp_path, folder, change))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.mkdir('CANARY') }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{% if %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_hostile_chat_template_is_refused_before_the_weights(
    tmp_path, folder, open_model, no_weights, template
):
    def change(path):
        (path / "chat_template.jinja").write_text(template.replace("CANARY", str(tmp_path / "ran")))

    with pytest.raises(EngineError, match="cannot be loaded"):
        open_model(broken(tmp_path, folder, change))
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def no_weights(monkeypatch):
    import transformers

    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda **_: pytest.fail("weights were loaded")
    )


@pytest.fixture
def no_loading(monkeypatch, no_weights):
    import transformers

    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda **_: pytest.fail("a tokenizer was loaded")
    )


def test_a_model_is_loaded_from_its_folder_as_safetensors_and_without_code(folder, open_model, monkeypatch):
    import transformers

    asked = []
    for kind in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        load_it = kind.from_pretrained
        monkeypatch.setattr(
            kind,
            "from_pretrained",
            lambda load_it=load_it, **options: asked.append(options) or load_it(**options),
        )
    open_model(folder)
    for options in asked:
        assert options["pretrained_model_name_or_path"] == str(folder)
        assert options["local_files_only"] is True
        assert options["trust_remote_code"] is False
    assert asked[1]["use_safetensors"] is True


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_an_absent_device_is_told(open_model, device):
    import torch

    if getattr(torch, "cuda" if device == "cuda" else "mps").is_available():
        device = "mps" if device == "cuda" else "cuda"
    with pytest.raises(EngineError, match=f"DEVICE is {device}"):
        open_model("", device)


@pytest.mark.slow
def test_the_packaged_model_runs_on_torch_with_the_same_prompt_and_nearly_the_same_logits(models_root):
    from inference.engine.load import CONTEXT, _packaged_on_torch

    models = [
        _packaged_on_torch(models_root, device="cpu", context=CONTEXT),
        load(path="", device="cpu", models_root=models_root),
    ]
    messages = [Message("user", QUESTION)]
    prompts = [[token for part in model.tokenizer.prompt(messages) for token in part] for model in models]
    assert prompts[0] == prompts[1]
    assert models[0].frequency_penalty == models[1].frequency_penalty
    logits = [model.scheduler._runner.prefill(0, prompts[0], 0).copy() for model in models]
    for model in models:
        model.scheduler.close()
    assert logits[0].argmax() == logits[1].argmax()
    assert np.corrcoef(*logits)[0, 1] > 0.99


def test_the_engine_is_not_imported_by_the_site(run_python):
    script = (
        "import os, sys; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'llmsite.settings');"
        "import django; django.setup(); import llmsite.asgi;"
        "print([name for name in sys.modules if name.startswith('inference.engine.')])"
    )
    assert run_python(script).strip() == "[]"
