"""A document that failed is read again when its owner asks for it."""

import pytest
from django.test import Client

from conftest import bearer, sign_in_client
from embeddings import ingestion
from embeddings.models import Chunk, Document, DocumentVersion, Page, Status
from embeddings.parsing import ParsingFailed, Reason
from embeddings.tests.documents import upload, work
from llmsite.core.worker import MOST_TRIES

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("model_process")]


@pytest.fixture(autouse=True)
def _here(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    monkeypatch.setattr(ingestion, "sync", lambda _collection: None)
    monkeypatch.setattr("llmsite.core.worker.BACK_OFF_SECONDS", (0.0,) * MOST_TRIES)


@pytest.fixture
def client(alice):
    return Client(headers=bearer(alice))


def failed(client, monkeypatch, reason):
    """A document whose reading ended with `reason`."""

    def fail(_path, _media_type):
        raise ParsingFailed(reason)

    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "parse", fail)
        pk = upload(client).json()["id"]
        while work():
            pass
    assert Document.objects.get(pk=pk).versions.get().error == reason
    return pk


def test_it_is_read_from_its_beginning(client, monkeypatch):
    pk = failed(client, monkeypatch, Reason.CRASHED)

    answer = client.post(f"/api/documents/{pk}/retry")
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (202, "queued", None)
    work()

    assert client.get(f"/api/documents/{pk}").json()["status"] == "ready"
    assert DocumentVersion.objects.count() == 1


def test_what_a_dead_worker_has_left_of_it_is_not_there_twice(client):
    pk = upload(client).json()["id"]
    work()
    pages, chunks = Page.objects.count(), Chunk.objects.count()
    Document.objects.filter(pk=pk).update(current=None)
    DocumentVersion.objects.update(status=Status.FAILED, error=Reason.CRASHED, progress=40)

    client.post(f"/api/documents/{pk}/retry")
    work()
    assert (Page.objects.count(), Chunk.objects.count()) == (pages, chunks)
    assert Document.objects.get().current is not None


def test_one_that_has_not_failed_stays_as_it_is(client):
    pk = upload(client).json()["id"]
    assert client.post(f"/api/documents/{pk}/retry").json()["status"] == "queued"
    assert [ended.how for ended in work()] == ["done"]
    assert client.post(f"/api/documents/{pk}/retry").json()["status"] == "ready"
    assert work() == []


@pytest.mark.parametrize(("reason", "offered"), [(Reason.CRASHED, True), (Reason.ENCRYPTED, False)])
def test_the_page_offers_it_where_it_may_help(client, alice, monkeypatch, reason, offered):
    pk = failed(client, monkeypatch, reason)
    browser = Client()
    sign_in_client(browser, alice)
    address = f"/documents/{pk}/retry/"
    assert (address in browser.get("/documents/").content.decode()) is offered

    assert browser.post(address).status_code == 302
    assert DocumentVersion.objects.get().status == Status.QUEUED
