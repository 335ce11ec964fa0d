"""What a version goes through in the worker, and how it ends where something fails."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import connection
from django.test import Client
from django_tasks_db.models import DBTaskResult

from conftest import bearer
from embeddings import deletion, ingestion, storage
from embeddings.failures import INTERNAL
from embeddings.models import Chunk, Collection, Document, DocumentVersion, Page, Status, Step
from embeddings.parsing import Parsed, ParsedPage, ParsingFailed, Reason
from embeddings.tests.documents import TEXT, upload, work
from llmsite.core.worker import MOST_TRIES, SILENCE_SECONDS, TryLater, Worker

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    """The collections whose indexes were told of a change."""
    told = []
    monkeypatch.setattr(ingestion, "sync", told.append)
    monkeypatch.setattr(deletion, "sync", told.append)
    return told


@pytest.fixture
def parsed(monkeypatch):
    """What the parser says, without a child process; each call is counted."""
    said = {"result": Parsed([ParsedPage(1, TEXT, [])], is_paged=False, title="Foxes"), "calls": 0}

    def parse(path, media_type):
        said["calls"] += 1
        if isinstance(said["result"], Exception):
            raise said["result"]
        return said["result"]

    monkeypatch.setattr(ingestion, "parse", parse)
    return said


@pytest.fixture
def client(alice):
    return Client(headers=bearer(alice))


def make_all_due():
    DBTaskResult.objects.filter(status="READY").update(run_after="2026-01-01T00:00Z")


def work_until_quiet():
    """As `work`, with the pauses between tries left out."""
    for _ in range(MOST_TRIES):
        make_all_due()
        work()


def shown(client, pk):
    return client.get(f"/api/documents/{pk}").json()


class TestAFailure:
    @pytest.mark.parametrize("reason", [Reason.ENCRYPTED, Reason.DAMAGED, Reason.EMPTY])
    def test_that_is_the_documents_own_is_final_at_once(self, client, parsed, model_process, reason):
        parsed["result"] = ParsingFailed(reason, "secret detail")
        pk = upload(client).json()["id"]
        work_until_quiet()

        document = shown(client, pk)
        assert parsed["calls"] == 1
        assert document["status"] == "failed"
        assert document["error"] == {"code": reason.value, "message": str(reason.label)}
        assert not document["is_searched"]

    def test_of_the_parser_is_tried_three_times_while_the_queue_moves_on(self, client, parsed, model_process):
        parsed["result"] = ParsingFailed(Reason.CRASHED)
        pk = upload(client).json()["id"]
        work()
        assert shown(client, pk)["status"] == "parsing"
        good = parsed["result"]
        parsed["result"] = Parsed([ParsedPage(1, "Other words.", [])], is_paged=False, title="")
        other = upload(client, "other words", name="other.txt").json()["id"]
        work()
        assert shown(client, other)["status"] == "ready"
        parsed["result"] = good
        work_until_quiet()

        assert shown(client, pk)["error"]["code"] == "crashed"
        assert parsed["calls"] == MOST_TRIES + 1

    def test_that_nobody_thought_of_is_told_as_ours(self, client, parsed, model_process):
        parsed["result"] = ZeroDivisionError("secret words")
        pk = upload(client).json()["id"]
        work_until_quiet()

        assert shown(client, pk)["error"]["code"] == "internal_error"
        assert "secret" not in str(shown(client, pk))

    @pytest.mark.parametrize(
        ("error", "code"), [(RuntimeError(), INTERNAL), (OSError(errno.ENOSPC, "full"), "disk_full")]
    )
    def test_in_a_late_step_leaves_no_text_behind(
        self, client, parsed, model_process, monkeypatch, error, code
    ):
        def break_down(_collection):
            assert Chunk.objects.exists()
            raise error

        monkeypatch.setattr(ingestion, "sync", break_down)
        pk = upload(client).json()["id"]
        work_until_quiet()

        assert shown(client, pk)["error"]["code"] == code
        assert client.get(f"/api/documents/{pk}/pages").json()["results"] == []
        assert not Page.objects.exists()
        assert not Chunk.objects.exists()

    def test_of_every_worker_that_tries_is_told_as_a_crash(self, client):
        pk = upload(client).json()["id"]
        clock = [0.0]
        worker = Worker(beats=False, clock=lambda: clock[0])
        for _ in range(MOST_TRIES):
            assert Worker(beats=False)._claim(DBTaskResult.objects.get())
            worker.reap()
            clock[0] += SILENCE_SECONDS
            worker.reap()

        assert shown(client, pk)["error"]["code"] == "crashed"

    def test_leaves_the_version_before_in_its_place(self, client, parsed, model_process):
        pk = upload(client).json()["id"]
        work()
        parsed["result"] = ParsingFailed(Reason.DAMAGED)
        upload(client, "broken")
        work()

        document = shown(client, pk)
        assert (document["status"], document["is_searched"]) == ("failed", True)
        assert [version["is_current"] for version in document["versions"]] == [True, False]
        assert Page.objects.get().text == TEXT

    def test_can_be_uploaded_again(self, client, parsed, model_process):
        good, parsed["result"] = parsed["result"], ParsingFailed(Reason.DAMAGED)
        upload(client)
        work()
        parsed["result"] = good
        answer = upload(client)
        work()

        assert answer.status_code == 202
        assert DocumentVersion.objects.get().status == Status.READY


class TestGoingBackToTheFileBeforeTheFailure:
    @pytest.fixture
    def failed(self, client, parsed, model_process):
        """A document that is searched, and whose newer version has failed."""
        pk = upload(client).json()["id"]
        work()
        good, parsed["result"] = parsed["result"], ParsingFailed(Reason.DAMAGED)
        upload(client, "broken")
        work()
        parsed["result"] = good
        return pk

    def test_takes_the_failure_away(self, client, failed):
        answer = upload(client)
        work()

        assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (200, failed, "ready")
        document = shown(client, failed)
        assert (document["status"], document["error"]) == ("ready", None)
        assert [version["number"] for version in document["versions"]] == [1]
        kept = list(storage.path_of(storage.FOLDER).iterdir())
        assert kept == [storage.path_of(DocumentVersion.objects.get().file)]

    def test_under_another_name_leaves_it(self, client, failed):
        assert upload(client, name="other.txt").json()["id"] == failed

        assert shown(client, failed)["status"] == "failed"

    def test_leaves_one_that_is_just_being_read_again(self, client, failed):
        client.post(f"/api/documents/{failed}/retry")

        assert upload(client).status_code == 202
        assert [version["number"] for version in shown(client, failed)["versions"]] == [1, 2, 3]


class TestADiskThatIsFull:
    def full(self, *_anything, **_values):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_refuses_an_upload_and_leaves_nothing(self, client, monkeypatch, settings):
        monkeypatch.setattr("embeddings.storage._to_disk", self.full)
        answer = upload(client)

        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert not Document.objects.exists()
        assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == []
        assert list(storage.path_of(storage.FOLDER).rglob("*")) == []

    def test_is_met_while_a_file_arrives(self, client, monkeypatch, settings):
        def write(_file, data):
            with open("/dev/full", "wb", buffering=0) as disk:
                return disk.write(data)

        monkeypatch.setattr(TemporaryUploadedFile, "write", write)
        answer = upload(client)

        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == []

    def test_fails_a_document_after_three_tries_and_recovers(
        self, client, parsed, model_process, monkeypatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(ingestion.bulk, "insert", self.full)
            pk = upload(client).json()["id"]
            work_until_quiet()
        assert shown(client, pk)["error"]["code"] == "disk_full"
        assert not Page.objects.exists()

        upload(client)
        work()
        assert shown(client, pk)["status"] == "ready"


class TestTheEncoder:
    def test_while_it_is_away_documents_wait(self, client, parsed, settings):
        settings.MODEL_URL = "http://127.0.0.1:9"
        pk = upload(client).json()["id"]
        for _ in range(MOST_TRIES + 2):
            make_all_due()
            assert [ended.reason for ended in work()] == ["embedder_unavailable"]

        document = shown(client, pk)
        assert (document["status"], document["error"]) == ("embedding", None)
        assert parsed["calls"] == 1, "what was done is not done again"

    def test_another_one_that_comes_in_the_middle_begins_anew(
        self, client, parsed, model_process, encoder, monkeypatch
    ):
        def wait(_work):
            raise TryLater(0, "test")

        with monkeypatch.context() as patch:
            patch.setitem(ingestion._STEPS, Step.EMBEDDED, wait)
            upload(client)
            Worker(beats=False).run_next()
        assert Chunk.objects.filter(vector=None).exists()
        encoder.name = "another"
        work()

        assert DocumentVersion.objects.get().status == Status.READY
        assert {chunk.index.embedder for chunk in Chunk.objects.all()} == {"another"}


def test_an_index_that_changes_before_the_last_step_is_not_missed(
    client, parsed, model_process, encoder, monkeypatch
):
    """A rebuild that ends between the vectors and the last step has not seen this version."""
    pk = upload(client).json()["id"]
    monkeypatch.setattr(ingestion, "sync", lambda _collection: setattr(encoder, "name", "another"))

    work()

    assert shown(client, pk)["status"] == "ready"
    assert {chunk.index.embedder for chunk in Chunk.objects.all()} == {"another"}


def test_many_chunks_are_embedded_in_batches_and_progress_shows(
    client, parsed, model_process, encoder, monkeypatch
):
    text = "\n\n".join(f"Paragraph {number}. " + "It goes on and on. " * 40 for number in range(10))
    parsed["result"] = Parsed([ParsedPage(1, text, [])], is_paged=False, title="")
    monkeypatch.setattr(ingestion, "CHUNKS_AT_ONCE", 4)
    seen, save = [], ingestion._Work.save

    def note(work, **values):
        save(work, **values)
        seen.extend([values["progress"]] if "progress" in values else [])

    monkeypatch.setattr(ingestion._Work, "save", note)
    upload(client)
    work()

    assert seen == sorted(seen)
    assert seen[0] > 0
    assert seen[-1] == 100
    assert len(seen) > 5
    assert [len(vector) for vector in Chunk.objects.values_list("vector", flat=True)] == [
        8
    ] * Chunk.objects.count()
    assert set(encoder.kinds) == {"passage"}


def test_a_worker_that_stops_does_not_wait_until_all_pages_are_cut(
    client, parsed, model_process, monkeypatch
):
    parsed["result"] = Parsed([ParsedPage(number, TEXT, []) for number in (1, 2)], is_paged=True, title="")
    worker, cut = Worker(beats=False), []

    def stop_at_the_first(pages):
        for page in pages:
            cut.append(page.number)
            worker.stop()

    monkeypatch.setattr(ingestion, "chunk", stop_at_the_first)
    upload(client)

    assert worker.run_next().how == "given back"
    assert cut == [1]


class TestALongDocument:
    @pytest.fixture(autouse=True)
    def _long(self, parsed, monkeypatch):
        """Many chunks of the first document that is read, one of each other."""
        text = "\n\n".join("It goes on and on. " * 40 for _ in range(10))
        short, long = (
            Parsed([ParsedPage(1, TEXT, [])], False, ""),
            Parsed([ParsedPage(1, text, [])], False, ""),
        )
        texts = iter([long])
        monkeypatch.setattr(ingestion, "parse", lambda *_: next(texts, short))
        monkeypatch.setattr(ingestion, "CHUNKS_AT_ONCE", 2)
        monkeypatch.setattr(ingestion, "CHUNKS_A_TURN", 4)

    def test_makes_way_for_somebody_elses_and_comes_further_with_each_turn(self, client, bob, model_process):
        long = upload(client, "long").json()["id"]
        worker, short = Worker(beats=False), Client(headers=bearer(bob))
        done = []
        for number in range(3):
            upload(short, f"short {number}", name=f"{number}.txt")
            hows = [worker.run_next().how, worker.run_next().how]
            done.append((*hows, Chunk.objects.exclude(vector=None).filter(version__document=long).count()))

        assert done == [("given back", "done", 0), ("given back", "done", 4), ("given back", "done", 8)]
        assert [ended.how for ended in work()] == ["done"]
        assert shown(client, long)["status"] == "ready"

    def test_goes_on_where_only_its_owners_wait(self, client, bob, model_process):
        upload(client, "long")
        upload(client, "short", name="short.txt")
        theirs = upload(Client(headers=bearer(bob)), "gone", name="gone.txt").json()["id"]
        deletion.delete_document(Document.objects.get(pk=theirs), actor=bob)
        DBTaskResult.objects.exclude(task_path__endswith="ingest_version").delete()

        assert [ended.how for ended in work()] == ["done", "done", "lost"]


def test_of_two_versions_at_once_the_later_upload_is_the_one_that_stays(client, parsed, model_process):
    pk = upload(client, "first").json()["id"]
    upload(client, "second")
    first, second = DocumentVersion.objects.order_by("number")
    ingestion.ingest(second.pk)
    ingestion.ingest(first.pk)

    assert Document.objects.get(pk=pk).current == second
    assert DocumentVersion.objects.get() == second


@pytest.mark.django_db(transaction=True)
def test_who_shows_a_version_and_who_deletes_its_document_lock_in_one_order(
    client, parsed, model_process, alice, monkeypatch
):
    """In two orders each would wait for the other, and the database would end one of them."""
    upload(client)
    document, is_about_to_wait, deletions = Document.objects.get(), threading.Event(), []
    show, pool = ingestion._show, ThreadPoolExecutor(1)

    def note(execute, sql, *rest):
        # SQLite waits where a transaction begins.
        if "embeddings_collection" in sql or sql.startswith("BEGIN"):
            is_about_to_wait.set()
        return execute(sql, *rest)

    def delete():
        try:
            with connection.execute_wrapper(note):
                deletion.delete_document(document, actor=alice)
        finally:
            connection.close()

    def come_between(execute, sql, *rest):
        found = execute(sql, *rest)
        if not deletions:
            deletions.append(pool.submit(delete))
            assert is_about_to_wait.wait(10)
        return found

    def show_while_it_is_deleted(work, index):
        with connection.execute_wrapper(come_between):
            return show(work, index)

    monkeypatch.setattr(ingestion, "_show", show_while_it_is_deleted)
    task = DBTaskResult.objects.get()
    with pool:
        assert [ended.how for ended in Worker(only=[task.pk], beats=False).run_ready()] == ["done"]
        deletions[0].result()

    document.refresh_from_db()
    assert document.current is not None
    assert document.deleting_at is not None


def test_a_worker_that_was_taken_for_dead_changes_nothing_any_more(
    client, parsed, model_process, monkeypatch
):
    upload(client)
    version = DocumentVersion.objects.get()
    embed = ingestion._embed

    def be_overtaken(work):
        ingestion._take(version.pk)
        embed(work)

    monkeypatch.setitem(ingestion._STEPS, Step.EMBEDDED, be_overtaken)
    assert [ended.how for ended in work()] == ["lost"]

    assert DocumentVersion.objects.get().step == "chunked"
    assert not Chunk.objects.exclude(vector=None).exists()


def test_a_deleted_collection_is_read_no_further(client, parsed, model_process, alice):
    upload(client)
    deletion.delete_collection(Collection.objects.get(), actor=alice)
    ingestion_task = DBTaskResult.objects.get(task_path__endswith="ingest_version")

    assert [ended.how for ended in Worker(only=[ingestion_task.pk], beats=False).run_ready()] == ["lost"]
    assert parsed["calls"] == 0
