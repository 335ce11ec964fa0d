"""What a person's documents leave behind when the person goes, and what they can take along."""

import json
from pathlib import Path

import pytest
from django.test import Client

from accounts.erasure import erase
from accounts.export import export_of
from accounts.models import Team, User
from conftest import bearer
from embeddings import deletion, ingestion
from embeddings.models import Chunk, Collection, Document, DocumentVersion, Page
from embeddings.tests.documents import upload, work
from llmsite.core.errors import EmbedderUnavailable, ErasureUnfinished

pytestmark = pytest.mark.django_db
MARKER = "zebrafinch"


@pytest.fixture(autouse=True)
def _media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"


@pytest.fixture
def synced(monkeypatch):
    told = []
    monkeypatch.setattr(ingestion, "sync", told.append)
    monkeypatch.setattr(deletion, "sync", told.append)
    return told


@pytest.fixture
def documents(alice, bob, synced, model_process):
    """One of each of two people, both ready."""
    for user in (alice, bob):
        text = f"The {MARKER} of {user.username} sings."
        upload(Client(headers=bearer(user)), text, name=f"{user.username}.txt")
    work()
    return Document.objects.all()


def texts():
    return " ".join(Page.objects.values_list("text", flat=True)) + " ".join(
        Chunk.objects.values_list("text", flat=True)
    )


def test_everything_of_one_person_goes_and_nothing_of_others(documents, alice, bob, settings, synced):
    own = Collection.objects.get(owner=alice).pk
    receipt = erase(alice, actor=None)

    assert (receipt.counts["documents"], receipt.counts["document_files"]) == (1, 1)
    assert synced[-1] == own
    assert Collection.objects.get().owner == bob
    assert "of bob" in texts()
    assert "of alice" not in texts()
    [file] = [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]
    assert b"of bob" in file.read_bytes()


def test_where_the_indexes_are_away_it_is_not_called_done(documents, alice, monkeypatch):
    def away(_collection):
        raise EmbedderUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(deletion, "sync", away)
        with pytest.raises(ErasureUnfinished):
            erase(alice, actor=None)
    assert User.objects.filter(pk=alice.pk).exists()
    assert not Collection.objects.visible_to(alice).filter(owner=alice).exists()

    erase(alice, actor=None)
    assert not User.objects.filter(pk=alice.pk).exists()


def test_a_team_of_nobody_else_that_could_read_somebodys_collection_goes_too(alice, bob):
    team = Team.objects.create(name="Two")
    team.members.set([alice])
    collection = Collection.objects.create(owner=bob, name="Papers", visibility="team", team=team)

    erase(alice, actor=None)

    collection.refresh_from_db()
    assert (collection.visibility, collection.team) == ("private", None)


def test_the_download_has_what_is_theirs_alone(documents, alice):
    exported = export_of(alice)["documents"]

    assert [row["name"] for collection in exported for row in collection["documents"]] == ["alice.txt"]
    assert exported[0]["documents"][0]["versions"][0]["status"] == "ready"
    assert "bob" not in json.dumps(exported)


def test_more_documents_cost_no_more_queries(documents, alice, django_assert_num_queries):
    from embeddings.personal_data import export

    with django_assert_num_queries(3):
        export(alice)
    collection = Collection.objects.get(owner=alice)
    for number in range(3):
        document = Document.objects.create(collection=collection, name=str(number))
        DocumentVersion.objects.create(document=document, number=1, sha256="", size=0, media_type="", file="")
    with django_assert_num_queries(3):
        assert len(export(alice)[0]["documents"]) == 4
