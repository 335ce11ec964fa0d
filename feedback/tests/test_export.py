"""Feedback as rows to train on: what is in them, whose they are, and that `datasets` reads them so."""

import csv
import errno
import hashlib
import json
import os
import stat

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEvent, User
from feedback import export, export_file
from feedback.export import ExportFormat, count, rows
from feedback.models import Example, ExampleKind, Feedback, ReviewStatus
from feedback.tests.making import ANSWER, CORRECTION, QUESTION, make_answer, make_feedback

pytestmark = pytest.mark.django_db

FORMATS = list(ExportFormat)


@pytest.fixture
def alice(alice):
    return with_consent(alice)


def with_consent(user: User) -> User:
    user.training_consent_at = timezone.now()
    user.save()
    return user


def accepted(user: User, message=None, *, chosen=CORRECTION, rejected=ANSWER, **values) -> Feedback:
    """Feedback with what follows from its acceptance."""
    feedback = make_feedback(user, message, status=ReviewStatus.ACCEPTED, scope="author", **values)
    prompt = [{"role": "user", "content": QUESTION}]
    for kind in ExampleKind:
        told = rejected if kind == ExampleKind.PREFERENCE else ""
        Example.objects.create(feedback=feedback, kind=kind, prompt=prompt, chosen=chosen, rejected=told)
    return feedback


def data(wanted) -> list[dict]:
    return [row.data for row in rows(wanted)]


# --- The shapes -----------------------------------------------------------------------------------------


def test_each_format_has_its_shape(alice):
    accepted(alice, tags=["wrong"], comment="No!", correction="Canberra.", label="geography")
    asked, said = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
    better = {"role": "assistant", "content": CORRECTION}

    assert data("sft") == [{"messages": [asked, better]}]
    assert data("dpo") == [{"prompt": [asked], "chosen": [better], "rejected": [said]}]
    assert data("kto") == [{"prompt": [asked], "completion": [said], "label": False}]
    (row,) = data("csv")
    expected = {"question": QUESTION, "answer": ANSWER, "rating": -1, "tags": "wrong", "comment": "No!"}
    assert expected.items() <= row.items()
    assert (row["correction"], row["label"], row["model"]) == ("Canberra.", "geography", "scripted")


def test_a_rated_answer_stands_after_the_turns_of_its_own_branch_alone(alice):
    preface = [
        {"role": "system", "content": "Be brief."},
        {"role": "tool", "content": "42", "tool_call_id": "a"},
        {"role": "assistant", "content": ""},
    ]
    first = make_answer(alice, "Hello?", "Hello.", preface=preface)
    make_answer(alice, "Another branch?", "Yes.", after=first)
    rated = make_answer(alice, "And who are you?", "A model.", after=first)
    make_answer(alice, "What came later?", "This.", after=rated)
    make_feedback(alice, rated, rating=1)

    (row,) = data("kto")

    assert [turn["content"] for turn in row["prompt"]] == [
        "Be brief.",
        "Hello?",
        "Hello.",
        "And who are you?",
    ]
    assert (row["completion"], row["label"]) == ([{"role": "assistant", "content": "A model."}], True)


def test_what_no_curator_accepted_teaches_nothing_and_what_one_rejected_is_no_rating(alice):
    make_feedback(alice, correction="Canberra.")
    left_over = accepted(alice)
    Feedback.objects.filter(pk=left_over.pk).update(status=ReviewStatus.REJECTED)

    assert data("sft") == data("dpo") == []
    assert len(data("kto")) == 1
    assert len(data("csv")) == 2


# --- Whose they are -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", FORMATS)
def test_only_what_was_written_under_consent_that_stands_is_exported(alice, bob, charlie, wanted):
    """F2: the consent of that moment, and of now."""
    own = accepted(alice)
    # Bob gave none; Charlie gave it after he wrote; Dora has withdrawn it.
    accepted(bob)
    accepted(charlie)
    with_consent(charlie)
    dora = with_consent(User.objects.create(username="dora"))
    accepted(dora)
    User.objects.filter(pk=dora.pk).update(training_consent_at=None)

    (row,) = rows(wanted)

    assert (row.feedback_id, row.user_id, row.author) == (own.pk, alice.pk, alice.pseudonym)
    assert (row.message_id, row.consented_at) == (own.message_id, own.consented_at)
    assert count(wanted) == 1


@pytest.mark.parametrize("wanted", FORMATS)
def test_pages_miss_and_repeat_nothing_and_each_costs_the_same(alice, wanted, monkeypatch):
    monkeypatch.setattr(export, "PAGE", 2)
    made = [accepted(alice, make_answer(alice, f"Question {number}?")).pk for number in range(3)]
    with CaptureQueriesContext(connection) as few:
        assert [row.feedback_id for row in rows(wanted)] == made
    made += [accepted(alice, make_answer(alice, f"Question {number}?")).pk for number in range(4)]
    with CaptureQueriesContext(connection) as more:
        assert [row.feedback_id for row in rows(wanted)] == made

    assert count(wanted) == len(made)
    # Two pages and an empty one; four and an empty one.
    assert len(more) - 1 == 2 * (len(few) - 1)


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="parquet"):
        rows("parquet")


# --- The command ----------------------------------------------------------------------------------------


def run(wanted: str, path) -> None:
    call_command("export_feedback", format=wanted, output=path)


@pytest.mark.parametrize("wanted", ["sft", "dpo", "kto", "csv"])
def test_datasets_loads_what_is_written_unchanged(alice, wanted, tmp_path, monkeypatch):
    import datasets

    # It would tell its makers that somebody reads JSON.
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    text = 'Zwölf – "zitiert"\nund \U0001f98a, mit <b>&amp;</b>'
    accepted(alice, make_answer(alice, text, text), chosen=text + "!", rejected=text, comment=text)
    accepted(alice)
    path = tmp_path / "feedback.data"

    run(wanted, path)
    options = {"path": "csv", "keep_default_na": False} if wanted == "csv" else {"path": "json"}
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(data_files=str(path), split="train", cache_dir=cache, **options)

    assert list(loaded) == data(wanted)


def test_the_file_beside_says_where_each_row_comes_from(alice, tmp_path):
    made = [accepted(alice), accepted(alice, make_answer(alice, adapter="smol-0123"))]
    path = tmp_path / "rows.jsonl"

    run("sft", path)

    told = json.loads((tmp_path / "rows.jsonl.provenance.json").read_text())
    assert (told["format"], told["rows"]) == ("sft", 2)
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [source["feedback"] for source in told["sources"]] == [str(one.pk) for one in made]
    assert told["sources"][1] == {
        "feedback": str(made[1].pk),
        "message": str(made[1].message_id),
        "author": str(alice.pseudonym),
        "consented_at": alice.training_consent_at.isoformat(),
        "model": "scripted",
        "adapter": "smol-0123",
    }
    assert "alice" not in json.dumps(told)
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in tmp_path.iterdir()} == {0o600}
    (event,) = AuditEvent.objects.filter(kind="feedback_exported")
    assert event.data == {"format": "sft", "rows": 2}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_table_is_a_formula(alice, tmp_path, start):
    make_feedback(alice, make_answer(alice, f"{start}cmd|' /C calc'!A0"), comment="1 = 1", rating=-1)
    path = tmp_path / "rows.csv"

    run("csv", path)

    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["question"] == f"'{start}cmd|' /C calc'!A0"
    assert (row["comment"], row["rating"]) == ("1 = 1", "-1")


def test_without_rows_nothing_is_written_and_the_way_to_some_is_told(alice, tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(CommandError, match="allow training"):
        run("sft", path)

    assert list(tmp_path.iterdir()) == []
    assert not AuditEvent.objects.filter(kind="feedback_exported").exists()


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "no space left"), (errno.EIO, "cannot be written")]
)
def test_a_write_that_fails_leaves_what_was_there(alice, tmp_path, monkeypatch, number, reason):
    accepted(alice)
    path = tmp_path / "rows.jsonl"
    run("sft", path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    accepted(alice)

    def fail(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(export_file.os, "fsync", fail)
    with pytest.raises(CommandError, match=reason):
        run("sft", path)

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_that_is_not_there_is_told(alice, tmp_path):
    accepted(alice)
    with pytest.raises(CommandError, match="cannot be written"):
        run("sft", tmp_path / "nowhere" / "rows.jsonl")
