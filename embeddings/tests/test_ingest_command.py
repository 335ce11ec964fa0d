"""`manage.py ingest`: files and folders become documents without a running worker."""

import json
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from embeddings import deletion, ingestion
from embeddings.indexes.client import sync
from embeddings.management.commands import ingest as module
from embeddings.models import Collection, Document
from embeddings.parsing import ParsingFailed, Reason
from llmsite.core.worker import Worker
from llmsite.testing.site import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _here(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.FILE_UPLOAD_TEMP_DIR = settings.MEDIA_ROOT / "uploads"
    monkeypatch.setattr(ingestion, "sync", lambda collection: None)
    monkeypatch.setattr(deletion, "sync", lambda collection: None)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0)
    # No other connection sees the rows of this test.
    monkeypatch.setattr(module, "Worker", partial(Worker, beats=False))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "papers"
    (folder / "below").mkdir(parents=True)
    (folder / "fox.txt").write_text("The fox lives in the wood.")
    (folder / "below" / "wolf.md").write_text("# Wolves\n\nThe wolf lives there too.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def run(*arguments):
    out, err = StringIO(), StringIO()
    try:
        call_command("ingest", *map(str, arguments), stdout=out, stderr=err)
        problem = ""
    except CommandError as error:
        problem = str(error)
    return out.getvalue(), err.getvalue(), problem


def test_a_folder_becomes_documents_of_a_collection(alice, folder, model_process, settings):
    out, _err, problem = run(folder, "--collection", "Papers")

    assert problem == ""
    assert [line.split()[1] for line in out.splitlines()] == ["ready", "ready"]
    assert set(Document.objects.values_list("name", flat=True)) == {"papers/fox.txt", "papers/below/wolf.md"}
    assert Collection.objects.get().name == "Papers"
    assert (folder / "fox.txt").exists(), "what is taken in is a copy"
    assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == []


def test_what_was_there_already_is_told_as_unchanged(alice, folder, model_process):
    run(folder, "--collection", "Papers")
    (folder / "fox.txt").write_text("The fox has left the wood.")

    out, err, problem = run(folder, "--collection", "Papers")

    assert problem == ""
    assert {line.split()[0].rpartition("/")[2]: line.split()[1] for line in out.splitlines()} == {
        "fox.txt": "ready",
        "wolf.md": "unchanged",
    }
    assert "passed over in the folders: 1." in err, "the picture"


def test_files_of_one_name_in_two_folders_are_two_documents(alice, tmp_path, model_process):
    for place, text in (("en/book", "The fox."), ("es/book", "El zorro.")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "fox.txt").write_text(text)
    run(tmp_path / "en", tmp_path / "es", "--collection", "Papers")
    assert set(Document.objects.values_list("name", flat=True)) == {"en/book/fox.txt", "es/book/fox.txt"}

    (tmp_path / "en" / "book" / "fox.txt").write_text("The fox again.")
    run(tmp_path / "en", "--collection", "Papers")
    assert sorted(Document.objects.values_list("name", "versions__number")) == [
        ("en/book/fox.txt", 2),
        ("es/book/fox.txt", 1),
    ]


def test_what_fails_is_told_with_its_reason(alice, folder, model_process, monkeypatch):
    def fail(path, media_type):
        raise ParsingFailed(Reason.ENCRYPTED)

    monkeypatch.setattr(ingestion, "parse", fail)
    out, _err, problem = run(folder / "fox.txt", folder / "picture.png", "--collection", "Papers", "--json")

    rows = json.loads(out)
    assert [row["outcome"] for row in rows] == ["failed", "refused"]
    assert "password" in rows[0]["reason"]
    assert problem.startswith("2 of 2 files")


def test_what_is_over_the_quota_is_refused_too(alice, folder, model_process, settings):
    settings.STORAGE_QUOTA_MB = 0.00003
    out, _err, problem = run(folder, "--collection", "Papers")

    assert sorted(line.split()[1] for line in out.splitlines()) == ["ready", "refused"]
    assert problem.startswith("1 of 2 files")
    assert len([path for path in settings.MEDIA_ROOT.rglob("*") if path.is_file()]) == 1


def test_it_says_when_the_model_process_goes_away(alice, folder, model_process, settings, monkeypatch):
    monkeypatch.setattr("embeddings.at_hand.answers", lambda _url: True)
    url, settings.MODEL_URL = settings.MODEL_URL, "http://127.0.0.1:9"
    monkeypatch.setattr(ingestion, "RETRY_SECONDS", 0)
    monkeypatch.setattr("llmsite.core.errors.EmbedderUnavailable.retry_after", None)

    say = module.Command._say

    def say_and_start_it(command, line):
        say(command, line)
        settings.MODEL_URL = url

    monkeypatch.setattr(module.Command, "_say", say_and_start_it)
    _out, err, problem = run(folder / "fox.txt", "--collection", "Papers")

    assert problem == ""
    assert "The model process is away" in err


@pytest.mark.django_db(transaction=True)
def test_where_no_model_process_runs_it_has_an_encoder_and_indexes_of_its_own(
    alice, folder, encoder, settings, monkeypatch, tmp_path
):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"
    settings.INDEX_ROOT = tmp_path / "indexes"
    monkeypatch.setattr("embeddings.encoder.load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr(ingestion, "sync", sync)

    _out, _err, problem = run(folder / "fox.txt", "--collection", "Papers")

    assert problem == ""
    assert (settings.INDEX_ROOT / str(Collection.objects.get().pk)).is_dir()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "--collection", "Papers"], "there is no such file"),
        (["fox.txt", "--collection", "Papers", "--owner", "nobody"], "no active user nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(alice, folder, arguments, expected, monkeypatch):
    monkeypatch.chdir(folder)
    _out, _err, problem = run(*arguments)

    assert expected in problem
    assert not Document.objects.exists()


def test_of_several_people_one_has_to_be_named(alice, bob, folder, model_process):
    assert "--owner" in run(folder, "--collection", "Papers")[2]
    assert run(folder, "--collection", "Papers", "--owner", "bob")[2] == ""
    assert Collection.objects.get().owner == bob
