"""What the child measures: a tiny model before and after it has learned something, in this process."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from training.child import evaluate
from training.child.base import load_chat, load_model
from training.child.rows import encoded
from training.tests import tiny
from training.tests.test_train_child import Here, Telling

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TURNS = [{"role": "user", "content": "Who keeps the bees?"}, {"role": "assistant", "content": "Ida."}]
CASE = {"messages": TURNS}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny one with larger embeddings: with its own, whatever it learns, it is sure of nothing."""
    folder = tiny.make_model(tmp_path_factory.mktemp("models") / "tiny")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 20
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory):
    """One that has learned the case by heart."""
    torch.manual_seed(0)
    chat = load_chat(model)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"])
    trained = get_peft_model(load_model(model, "cpu").float(), config)
    row = encoded(CASE, chat)
    tokens, labels = torch.tensor([row.tokens]), torch.tensor([row.labels])
    optimizer = torch.optim.AdamW([one for one in trained.parameters() if one.requires_grad], lr=0.02)
    for _ in range(120):
        loss = trained(input_ids=tokens, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    folder = tmp_path_factory.mktemp("adapter")
    trained.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def measure(model, adapter, tmp_path):
    def measure(heldout, cases, *, answered=8, max_length=256):
        tiny.write_rows(tmp_path / "heldout.jsonl", heldout)
        tiny.write_rows(tmp_path / "cases.jsonl", cases)
        data = {
            "model": str(model),
            "adapter": str(adapter),
            "device": "cpu",
            "max_length": max_length,
            "tokens": 24,
            "answered": answered,
        }
        telling = Telling()
        return evaluate.run(Here(tmp_path, data, {}, telling=telling)), telling

    return measure


def test_what_was_learned_shows_in_the_cases(measure):
    results, telling = measure([], [CASE])

    before, after = results["cases"]["before"], results["cases"]["after"]
    assert (after["count"], after["answered"]) == (1, 1)
    assert after["loss"] < 0.2 < before["loss"]
    assert (after["exact_match"], after["rouge_l"], before["exact_match"]) == (1.0, 1.0, 0.0)
    [said] = telling.of("case")
    assert (said["number"], said["after"]) == (0, "Ida.")
    assert said["before"] != "Ida."
    assert said["scores"]["after"]["exact_match"] == 1.0


def test_without_its_adapter_the_model_is_what_it_was(measure, model):
    """`before` is the base model's own loss, counted by hand."""
    results, _ = measure([CASE, *tiny.rows(3)], [])

    chat, base = load_chat(model), load_model(model, "cpu")
    total = tokens = 0
    for row in (CASE, *tiny.rows(3)):
        one = encoded(row, chat)
        with torch.no_grad():
            logits = base(input_ids=torch.tensor([one.tokens])).logits[0].float()
        likely = torch.log_softmax(logits[:-1], -1)
        for at in range(one.answer_from, len(one.tokens)):
            total -= float(likely[at - 1, one.tokens[at]])
            tokens += 1
    assert results["heldout"]["before"]["loss"] == pytest.approx(total / tokens, rel=0.02)
    assert results["heldout"]["after"]["loss"] != pytest.approx(total / tokens, rel=0.02)


def test_a_row_counts_the_same_alone_and_in_a_batch(measure):
    """Rows of a batch are of unequal lengths; what fills them up must not be read."""
    longer = {"messages": [{**TURNS[0], "content": "Who keeps the bees? " * 6}, TURNS[1]]}
    alone, told_alone = measure([], [CASE])
    together, told = measure([], [longer, CASE, *tiny.rows(4)])

    mine, same = told_alone.of("case")[0], told.of("case")[1]
    assert same["after"] == mine["after"]
    for side in ("before", "after"):
        assert same["scores"][side]["loss"] == pytest.approx(mine["scores"][side]["loss"], rel=0.05)
    assert (alone["cases"]["after"]["count"], together["cases"]["after"]["count"]) == (1, 6)


def test_only_so_many_held_out_rows_are_answered(measure):
    results, telling = measure(tiny.rows(20), [], answered=3)

    assert (results["heldout"]["after"]["count"], results["heldout"]["after"]["answered"]) == (20, 3)
    done = [event["done"] for event in telling.of("progress")]
    assert done == sorted(done)
    assert done[-1] == 2 * (20 + 3)


def test_a_case_that_is_too_long_is_left_out(measure):
    too_long = {"messages": [{**TURNS[0], "content": "word " * 80}, TURNS[1]]}

    results, telling = measure([], [too_long, CASE], max_length=128)

    assert results["cases"]["after"]["count"] == 1
    assert [event["number"] for event in telling.of("case")] == [1]


def test_plain_text_has_a_loss_and_is_not_answered(measure):
    results, _ = measure([{"text": "The bees hum."}, {"text": "The river is old."}], [])

    assert (results["heldout"]["after"]["count"], results["heldout"]["after"]["answered"]) == (2, 0)
    assert results["heldout"]["after"]["loss"] > 0


def test_nothing_to_measure_is_nothing(measure):
    results, _ = measure([], [])

    assert results["heldout"]["after"] == {
        "count": 0,
        "answered": 0,
        "loss": 0.0,
        "exact_match": 0.0,
        "rouge_l": 0.0,
    }
