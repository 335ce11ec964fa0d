"""LoRA training itself, with a tiny model in this process: what is learnt, told, kept, and refused."""

import json
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from training.child import base, checkpoints, train
from training.child.__main__ import meaning_of
from training.child.job import ChildFailure, Job, Stopped
from training.child.rows import IGNORED, encoded
from training.settings import RunSettings
from training.tests import tiny

# peft still asks by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

QUICK = {"epochs": 2, "save_every": 4, "batch_size": 4, "eval_fraction": 0.1, "learning_rate": 0.01}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other cost more here than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def signals():
    """A child is a process of its own, and need not give its signals back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Killed(BaseException):
    """As a SIGKILL would: nothing of the child runs after it."""


class Telling:
    """What a run has said; it falls down when it says what `falls` picks."""

    def __init__(self, falls=lambda event: False):
        self.events = []
        self.falls = falls

    def __call__(self, name, **values):
        event = {"event": name, **values}
        self.events.append(event)
        if self.falls(event):
            raise Killed

    def of(self, name):
        return [event for event in self.events if event["event"] == name]


class Here(Job):
    """A job whose words come to a list."""

    tell = None

    def __init__(self, *given, telling):
        super().__init__(*given)
        object.__setattr__(self, "tell", telling)


@pytest.fixture
def training(model, tmp_path, signals, monkeypatch):
    def start(*, rows=None, telling=None, folder="job", **chosen):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        lines = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(20) if rows is None else rows)
        data = {
            "model": str(model),
            "base_name": "tiny",
            "device": "cpu",
            "settings": RunSettings(**{**QUICK, **chosen}).as_dict(),
        }
        monkeypatch.chdir(place)
        telling = telling or Telling()
        with lines.open("rb") as file:
            returned = train.run(Here(place, data, {"rows": file}, telling=telling))
        return place, telling, returned

    return start


def weights(place):
    return load_file(place / train.ADAPTER / train.ADAPTER_WEIGHTS)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- What comes of it -------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_an_adapter_that_peft_loads(training, model):
    from peft import PeftModel

    rows = tiny.rows(2) * 6
    place, telling, returned = training(rows=rows, epochs=20, eval_fraction=0)

    losses = [event["loss"] for event in telling.of("metric")]
    assert losses[-1] < losses[0] - 0.4
    assert returned == {"steps": 60, "rows": 12, "held_out": 0}
    adapted = PeftModel.from_pretrained(base.load_model(model, "cpu"), place / train.ADAPTER)
    config = adapted.peft_config["default"]
    assert config.base_model_name_or_path == "tiny"
    assert sorted(path.name for path in (place / train.ADAPTER).iterdir()) == [
        train.ADAPTER_CONFIG,
        train.ADAPTER_WEIGHTS,
    ]


def test_each_step_tells_what_was_measured(training):
    _, telling, _ = training()

    assert telling.events[0] == {"event": "started", "step": 0, "total_steps": 10}
    steps = [event for event in telling.of("metric") if "loss" in event]
    assert [event["step"] for event in steps] == list(range(1, 11))
    assert all(event["tokens_per_second"] > 0 and event["gradient_norm"] > 0 for event in steps)
    assert steps[0]["learning_rate"] > steps[-1]["learning_rate"] > 0
    held_out = [event["step"] for event in telling.of("metric") if "eval_loss" in event]
    assert held_out == [0, 4, 8, 10]


def test_only_the_answer_is_learnt(model):
    chat = base.load_chat(model)
    row = {
        "messages": [
            {"role": "user", "content": "Is <|im_end|> two words?"},
            {"role": "assistant", "content": "No"},
        ]
    }

    one = encoded(row, chat)

    learnt = [label for label in one.labels if label != IGNORED]
    assert learnt == [*chat.encode("No"), chat.end]
    assert chat.decode(one.tokens[: one.answer_from]).endswith("two words?\nassistant\n")
    # The words of a turn never become the mark that ends one.
    assert one.tokens.count(chat.end) == 2


def test_plain_text_is_learnt_from_its_first_word(model):
    chat = base.load_chat(model)

    assert encoded({"text": "All of it"}, chat).labels == [*chat.encode("All of it"), chat.end]


def test_rows_of_different_lengths_share_a_batch(model):
    chat = base.load_chat(model)
    short, long = (encoded({"text": text}, chat) for text in ("a", "longer"))

    batch = train.Rows([short, long], chat.pad).batch([short, long])

    assert batch["input_ids"].shape == (2, 7)
    assert batch["attention_mask"][0].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert batch["labels"][0].tolist() == [*short.tokens, *[IGNORED] * 5]


# --- After a fall -----------------------------------------------------------------------------------------


def test_a_run_that_falls_at_any_step_ends_with_the_same_weights(training):
    """Killed at three random moments, in the middle of epochs; dropout is on, so its dice count too."""
    chosen = {"dropout": 0.2, "gradient_accumulation": 2, "epochs": 4, "save_every": 3}
    whole, _, _ = training(folder="whole", **chosen)
    falls = sorted(random.sample(range(1, 12), 3))

    for step in falls:
        telling = Telling(lambda event, step=step: event["event"] == "metric" and event["step"] == step)
        with pytest.raises(Killed):
            training(folder="falling", telling=telling, **chosen)
    fallen, telling, _ = training(folder="falling", **chosen)

    assert telling.events[0]["step"] == falls[-1] // 3 * 3 or falls[-1] % 3 == 0
    assert same(weights(whole), weights(fallen)), falls


def test_a_run_that_is_asked_to_stop_keeps_its_last_step(training):
    def stop(event):
        if event["event"] == "metric" and event["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, _, _ = training(folder="whole")
    with pytest.raises(Stopped):
        training(telling=Telling(stop))

    place, telling, _ = training()
    assert telling.events[0]["step"] == 7
    assert same(weights(place), weights(whole))


def test_a_checkpoint_that_is_not_whole_was_never_written(training, monkeypatch):
    """The fall comes in the middle of writing, and the one before is damaged by the disk besides."""
    chosen = {"epochs": 4}
    whole, _, _ = training(folder="whole", **chosen)
    written, write_file = [], checkpoints.write_file

    def fall(path, data):
        written.append(path)
        if len(written) == 12:  # In the fourth checkpoint, of four files each.
            path.write_bytes(data[: len(data) // 2])
            raise Killed
        return write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_file", fall)
        patch.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            training(**chosen)
    root = Path("checkpoints")
    [newest] = [path for path in root.iterdir() if path.name == "8"]
    tensors = newest / checkpoints.TENSORS
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)

    place, telling, _ = training(**chosen)
    assert telling.events[0]["step"] == 4
    assert same(weights(place), weights(whole))


def test_nothing_of_a_checkpoint_is_a_pickle(training):
    place, _, _ = training()

    files = [path for path in (place / train.CHECKPOINTS).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert not [path for path in place.rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl")]
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as opened:
                assert list(opened.keys())


def test_only_the_last_two_checkpoints_are_kept(training):
    place, _, _ = training(save_every=1)

    assert sorted(path.name for path in (place / train.CHECKPOINTS).iterdir()) == ["10", "9"]


# --- Refusals ---------------------------------------------------------------------------------------------


def refusal(do):
    with pytest.raises(ChildFailure) as caught:
        do()
    return caught.value.code, caught.value.data


def test_a_row_that_is_too_long_is_named_and_never_cut(training):
    rows = tiny.rows(3)
    rows[1]["messages"][1]["content"] = "long " * 50

    code, data = refusal(lambda: training(rows=rows, max_length=100))

    assert (code, data["row"], data["limit"]) == ("rows_too_long", 2, 100)
    assert data["tokens"] > 250
    fitting = {"rows": rows, "eval_fraction": 0}
    assert training(**fitting, max_length=data["longest"], folder="longer")[2]["rows"] == 3
    assert refusal(lambda: training(**fitting, max_length=data["longest"] - 1))[0] == "rows_too_long"


def test_longer_rows_are_left_out_where_that_is_asked_for(training):
    rows = tiny.rows(20)
    for number in range(4):
        rows[number]["messages"][1]["content"] = "long " * 50

    _, told, result = training(rows=rows, max_length=100, leave_out=True, eval_fraction=0.3)

    assert result["rows"] + result["held_out"] == 16
    assert told.of("left_out") == [{"event": "left_out", "rows": 4}]


def test_nor_may_it_be_longer_than_what_the_model_was_made_for(training):
    rows = tiny.rows(3)
    rows[2]["messages"][1]["content"] = "long " * 200

    code, data = refusal(lambda: training(rows=rows, max_length=4000))

    assert (code, data["row"], data["limit"], data["context"]) == ("rows_over_context", 3, 512, 512)


def test_a_loss_that_is_no_number_ends_the_run(training, monkeypatch):
    compute = train.Trainer.compute_loss
    monkeypatch.setattr(train.Trainer, "compute_loss", lambda *a, **k: compute(*a, **k) * float("nan"))

    assert refusal(lambda: training(eval_fraction=0)) == ("diverged", {"step": 1})


def copy_of(model, tmp_path):
    import shutil

    return Path(shutil.copytree(model, tmp_path / "copy"))


def hostile(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoModelForCausalLM": "canary.Model"}},
        {"_attn_implementation_internal": "somebody/kernels"},
        {"text_config": {"attn_implementation": "https://example.org/kernels"}},
    ],
)
def test_a_model_that_brings_code_is_refused_before_anything_is_loaded(model, tmp_path, values):
    folder = copy_of(model, tmp_path)
    hostile(folder, **values)
    (folder / "canary.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")

    for load in (lambda: base.load_model(folder, "cpu"), lambda: base.load_chat(folder)):
        assert refusal(load)[0] == "base_unsafe"
    assert not (tmp_path / "canary").exists()


def test_a_pickle_is_no_model(model, tmp_path):
    import pickle

    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    folder = copy_of(model, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary()))

    assert refusal(lambda: base.load_model(folder, "cpu")) == ("base_unusable", {"detail": "safetensors"})
    assert not (tmp_path / "canary").exists()


def test_a_chat_template_runs_in_a_sandbox(model, tmp_path):
    folder = copy_of(model, tmp_path)
    template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    (folder / "chat_template.jinja").write_text(template)

    assert refusal(lambda: base.load_chat(folder)) == ("base_unusable", {"detail": "chat template"})


def test_what_may_be_loaded_is_said_to_the_library_too(model, monkeypatch):
    asked = []
    load = base.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        base.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: asked.append(k) or load(*a, **k)
    )

    base.load_model(model, "cpu")

    assert asked[0]["use_safetensors"] is True
    assert asked[0]["trust_remote_code"] is False
    assert asked[0]["local_files_only"] is True


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(27, "File too large"), "disk_full"),
        (MemoryError(), "out_of_memory"),
        (OSError(12, "Cannot allocate memory"), "out_of_memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "out_of_memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("shapes do not fit"), "crashed"),
        (ChildFailure("no_rows"), "no_rows"),
    ],
)
def test_what_a_library_raises_is_told_by_what_it_means(error, code):
    assert meaning_of(error)[0] == code
