"""Indexes that fail: who searches is told, and documents do not wait for ever for what does not pass."""

import errno
import os
import shutil
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django_tasks_db.models import DBTaskResult

from conftest import bearer
from embeddings import deletion, ingestion
from embeddings.indexes import client as indexes
from embeddings.indexes import faiss_index, rows
from embeddings.indexes import host as module
from embeddings.indexes.faiss_index import FaissIndex
from embeddings.indexes.host import Host
from embeddings.indexes.lexical import LexicalIndex
from embeddings.models import Document
from embeddings.search import search
from embeddings.tests.documents import upload, work
from embeddings.tests.fakes import DIMENSIONS
from embeddings.tests.indexes.library import add_document, index_of, make_collection
from embeddings.tests.serving import serving
from llmsite.core.errors import DiskFull, EmbedderFailed, EmbedderUnavailable, describe
from llmsite.core.worker import MOST_TRIES
from llmsite.testing.site import free_port

pytestmark = pytest.mark.django_db(transaction=True)

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FAULTS = pytest.mark.parametrize(
    ("fault", "told", "code"),
    [(NO_SPACE, DiskFull, "disk_full"), (RuntimeError("secret"), EmbedderFailed, "internal_error")],
    ids=["disk-full", "broken"],
)


@pytest.fixture(autouse=True)
def _media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"


@pytest.fixture
def books(alice):
    return make_collection(alice)


@pytest.fixture
def client(alice):
    return Client(headers=bearer(alice))


def raising(error):
    def fail(*_anything, **_values):
        raise error

    return fail


def work_when_due():
    """One round of the worker, with the pauses between tries left out; how each task ended."""
    DBTaskResult.objects.filter(status="READY").update(run_after="2026-01-01T00:00Z")
    return [(ended.how, ended.reason) for ended in work()]


@FAULTS
def test_a_sync_that_fails_is_not_one_that_waits(model_process, books, monkeypatch, fault, told, code):
    monkeypatch.setattr(Host, "sync", raising(fault))

    with pytest.raises(told) as caught:
        indexes.sync(books.pk)
    assert "secret" not in describe(caught.value).message


def test_a_model_process_that_is_away_or_loads_is_waited_for(settings):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(EmbedderUnavailable) as caught:
        indexes.sync()
    assert not isinstance(caught.value, EmbedderFailed)


@FAULTS
def test_a_search_tells_that_its_indexes_cannot_be_brought_up_to_date(
    model_process, alice, books, monkeypatch, fault, told, code
):
    add_document(books, "a cat")
    monkeypatch.setattr(Host, "refresh", raising(fault))

    with pytest.raises(told):
        async_to_sync(search)(alice, "cat")


@FAULTS
def test_a_document_fails_after_three_tries(model_process, client, monkeypatch, fault, told, code):
    monkeypatch.setattr(Host, "sync", raising(fault))
    pk = upload(client).json()["id"]
    tries = [how for _ in range(MOST_TRIES) for how, _ in work_when_due()]

    assert tries[:2] == ["again", "again"]
    document = client.get(f"/api/documents/{pk}").json()
    assert (document["status"], document["error"]["code"]) == ("failed", code)


def test_an_encoder_that_fails_over_a_text_is_asked_three_times(model_process, client, monkeypatch):
    monkeypatch.setattr(ingestion, "passage", lambda _chunk: "fail")
    pk = upload(client).json()["id"]
    for _ in range(MOST_TRIES):
        work_when_due()

    assert client.get(f"/api/documents/{pk}").json()["error"]["code"] == "internal_error"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(NO_SPACE, "disk_full"), (RuntimeError(), "embedder_failed")],
    ids=["disk-full", "broken"],
)
def test_a_deletion_is_never_given_up(model_process, alice, client, monkeypatch, fault, reason):
    upload(client)
    work_when_due()
    with monkeypatch.context() as patch:
        patch.setattr(Host, "sync", raising(fault))
        deletion.delete_document(Document.objects.get(), actor=alice)
        for _ in range(MOST_TRIES + 1):
            assert work_when_due() == [("waits", reason)]
    assert Document.objects.exists()

    assert work_when_due() == [("done", "")]
    assert not Document.objects.exists()


@pytest.mark.parametrize(("free", "told"), [(0, DiskFull), (1 << 40, EmbedderFailed)])
def test_a_library_that_fails_on_a_full_disk_is_understood(
    encoder, settings, tmp_path, books, monkeypatch, free, told
):
    """FAISS and tantivy say it in words of their own, or not at all."""
    add_document(books, "a cat")
    monkeypatch.setattr(LexicalIndex, "change", raising(ValueError("Worker thread failed")))
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free))

    with serving(lambda: encoder, index_root=tmp_path) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        with pytest.raises(told):
            indexes.sync()


def test_a_search_keeps_its_indexes_open_until_it_has_asked_them(
    encoder, settings, tmp_path, alice, books, monkeypatch
):
    """Another one between may bring in as many as may be open."""
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    add_document(books, "a cat")
    others = make_collection(alice, "Others")
    add_document(others, "a dog")
    real = Host.search

    def search_after_another(self, targets, question):
        self.refresh(rows.targets([others.pk]))
        return real(self, targets, question)

    monkeypatch.setattr(Host, "search", search_after_another)
    with serving(lambda: encoder, index_root=tmp_path) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        found = async_to_sync(indexes.find)(rows.targets([books.pk]), "cat", "hybrid")
    assert (len(found.hits), found.is_complete) == (1, True)


def test_a_document_passes_though_the_files_of_its_index_were_lost(
    encoder, settings, tmp_path, client, alice
):
    with serving(lambda: encoder, index_root=tmp_path / "indexes") as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        first = upload(client).json()
        work_when_due()
        for folder in (tmp_path / "indexes").iterdir():
            shutil.rmtree(folder) if folder.is_dir() else None
        second = upload(client, "A badger digs.", name="badger.txt").json()["id"]
        assert work_when_due() == [("done", "")]
        assert client.get(f"/api/documents/{second}").json()["status"] == "ready"

        deletion.delete_document(Document.objects.get(pk=first["id"]), actor=alice)
        assert work_when_due() == [("done", "")]


def test_a_deletion_that_could_not_be_kept_is_kept_at_the_next_try(tmp_path, books, monkeypatch):
    """Else the snapshot would have what the row says is gone."""
    document = add_document(books, "a cat")
    add_document(books, "a dog")
    folder = tmp_path / str(books.pk) / str(index_of(books).pk)
    host = Host(tmp_path, vectors=lambda target, folder: FaissIndex(target.dimensions, folder))
    host.sync()
    gone = document.current_id
    document.delete()
    with monkeypatch.context() as patch:
        patch.setattr(faiss_index, "_replace", raising(NO_SPACE))
        with pytest.raises(DiskFull):
            host.sync()
    assert gone in FaissIndex(DIMENSIONS, folder).held()

    host.sync()
    assert gone not in FaissIndex(DIMENSIONS, folder).held()
    host.close()
