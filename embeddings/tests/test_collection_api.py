"""Collections by the API: made, shared, renamed, deleted, and only by their owner."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent, Scope, Team
from conftest import bearer
from embeddings import collection_api, deletion
from embeddings.models import Chunk, Collection, Document, SearchIndex, access_collection
from embeddings.tests.documents import upload, work

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"


@pytest.fixture
def client(alice):
    return Client(headers=bearer(alice))


@pytest.fixture
def team(alice, bob):
    team = Team.objects.create(name="Foxes")
    team.members.set([alice, bob])
    return team


def make(client, **values):
    return client.post("/api/collections", {"name": "Animals", **values}, content_type="application/json")


def change(client, pk, **values):
    return client.patch(f"/api/collections/{pk}", values, content_type="application/json")


def names(user):
    return [row["name"] for row in Client(headers=bearer(user)).get("/api/collections").json()["results"]]


def test_one_is_made_private(client, alice, bob):
    answer = make(client)

    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["visibility"], shown["team"], shown["is_own"], shown["documents"]) == (
        "private",
        None,
        True,
        0,
    )
    assert client.get(f"/api/collections/{shown['id']}").json() == shown
    assert (names(alice), names(bob)) == (["Animals"], [])


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"visibility": "secret"}, "visibility"),
        ({"visibility": "team"}, "team"),
        ({"owner": 1}, "owner"),
    ],
)
def test_values_that_make_no_sense_name_the_field(client, values, field):
    answer = make(client, **values)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert not Collection.objects.exists()


def test_a_name_is_taken_once(client, alice, bob):
    make(client)

    assert make(client).json()["error"]["field"] == "name"
    assert make(Client(headers=bearer(bob))).status_code == 201


class TestSharing:
    def test_with_a_team_and_with_everybody(self, client, team, bob, charlie):
        pk = make(client).json()["id"]
        assert change(client, pk, visibility="team", team=team.pk).json()["team"] == team.pk
        assert (names(bob), names(charlie)) == (["Animals"], [])

        assert change(client, pk, visibility="public").json()["team"] is None
        assert names(charlie) == ["Animals"]
        assert Client(headers=bearer(bob)).get(f"/api/collections/{pk}").json()["is_own"] is False

    def test_only_with_a_team_of_ones_own(self, client, charlie):
        strangers = Team.objects.create(name="Strangers")
        pk = make(client).json()["id"]
        foreign = change(client, pk, visibility="team", team=strangers.pk)
        missing = change(client, pk, visibility="team", team=10**9)

        assert foreign.json()["error"]["field"] == "team"
        assert foreign.json()["error"]["message"] == missing.json()["error"]["message"]
        assert Collection.objects.get().visibility == "private"

    def test_each_change_that_a_reader_can_notice_counts_as_a_new_version(self, client, team):
        pk = make(client).json()["id"]
        for values in ({"visibility": "public"}, {"visibility": "team", "team": team.pk}, {"name": "Other"}):
            version = Collection.objects.get().version
            assert change(client, pk, **values).status_code == 200
            assert Collection.objects.get().version == version + 1

    def test_who_may_read_what_is_in_the_audit_log(self, client, team):
        pk = make(client).json()["id"]
        change(client, pk, name="Other")
        assert not AuditEvent.objects.filter(kind="collection_shared").exists()
        change(client, pk, visibility="team", team=team.pk)

        [event] = AuditEvent.objects.filter(kind="collection_shared")
        assert event.data == {"collection": pk, "visibility": "team", "team": team.pk}

    def test_what_a_team_could_read_is_private_again_when_the_team_goes(self, client, team, bob):
        pk = make(client, visibility="team", team=team.pk).json()["id"]
        version = Collection.objects.get().version
        team.delete()

        collection = Collection.objects.get(pk=pk)
        assert (collection.visibility, collection.team, collection.version) == ("private", None, version + 1)


class TestAChangeWhileOthersChangeIt:
    """What happens between the reading of the row and its change is not undone by the change."""

    @pytest.fixture
    def meanwhile(self, monkeypatch):
        def let(happen):
            def read(user, pk, **values):
                collection = access_collection(user, pk, **values)
                happen(Collection.objects.filter(pk=collection.pk))
                return collection

            monkeypatch.setattr(collection_api, "access_collection", read)

        return let

    def test_no_version_comes_twice(self, client, meanwhile):
        pk = make(client).json()["id"]
        meanwhile(lambda rows: [rows.bump() for _ in range(3)])

        assert change(client, pk, name="Other").json()["version"] == 5

    def test_what_is_not_named_stays_as_it_is_by_then(self, client, meanwhile):
        pk = make(client, visibility="public").json()["id"]
        meanwhile(lambda rows: rows.update(visibility="private"))

        assert change(client, pk, name="Other").json()["visibility"] == "private"
        assert AuditEvent.objects.filter(kind="collection_shared").count() == 1

    def test_a_deleted_one_stays_deleted(self, client, alice, meanwhile):
        pk = make(client).json()["id"]
        meanwhile(lambda rows: deletion.delete_collection(rows.get(), actor=alice))

        assert change(client, pk, name="Other").status_code == 404
        assert names(alice) == []
        assert Collection.objects.get().name == "Animals"


if connection.vendor == "postgresql":

    def test_a_row_is_held_while_it_is_changed(client):
        pk = make(client).json()["id"]
        with CaptureQueriesContext(connection) as asked:
            assert change(client, pk, name="Other").status_code == 200

        statements = [query["sql"] for query in asked if '"embeddings_collection"' in query["sql"]]
        held = [number for number, sql in enumerate(statements) if "FOR UPDATE" in sql]
        assert held, statements
        assert '"deleting_at" IS NULL' in statements[held[0]]
        changed = [number for number, sql in enumerate(statements) if sql.startswith("UPDATE")]
        assert len(changed) == 2
        assert min(changed) > held[0]


class TestOthers:
    @pytest.mark.parametrize("visibility", ["private", "public"])
    def test_they_change_and_delete_nothing(self, client, bob, visibility):
        pk = make(client, visibility=visibility).json()["id"]
        stranger = Client(headers=bearer(bob))

        assert change(stranger, pk, name="Mine").status_code == 404
        assert stranger.delete(f"/api/collections/{pk}").status_code == 404
        assert Collection.objects.get().name == "Animals"

    def test_no_key_without_the_scope_gets_in(self, alice):
        client = Client(headers=bearer(alice, scopes=[Scope.CHAT]))
        assert client.get("/api/collections").status_code == 403
        assert make(client).status_code == 403


def test_the_list_costs_the_same_for_any_number(client, alice, django_assert_num_queries):
    Collection.objects.create(owner=alice, name="0")
    client.get("/api/collections")
    with django_assert_num_queries(1):
        client.get("/api/collections")
    Collection.objects.bulk_create(Collection(owner=alice, name=str(number)) for number in range(1, 6))
    with django_assert_num_queries(1):
        assert len(client.get("/api/collections").json()["results"]) == 6


def test_a_deleted_one_goes_with_its_documents_from_every_store(client, alice, settings, monkeypatch):
    synced = []
    monkeypatch.setattr(deletion, "sync", synced.append)
    pk = make(client).json()["id"]
    upload(client, collection=pk)
    SearchIndex.objects.create(collection_id=pk, embedder="x", dimensions=4, chunker="1", status="active")

    assert client.delete(f"/api/collections/{pk}").status_code == 204
    assert names(alice) == []
    assert client.get("/api/documents").json()["results"] == []
    assert make(client).status_code == 201, "its name is free at once"
    work()

    assert [str(one) for one in synced] == [pk]
    assert Collection.objects.count() == 1
    for model in (Document, Chunk, SearchIndex):
        assert not model.objects.exists()
    assert [path for path in settings.MEDIA_ROOT.rglob("*") if path.is_file()] == []
    assert AuditEvent.objects.filter(kind="collection_deleted").exists()


def test_an_id_that_is_being_deleted_is_like_a_missing_one(client, alice):
    from llmsite.core.errors import NotFound

    pk = make(client).json()["id"]
    client.delete(f"/api/collections/{pk}")

    with pytest.raises(NotFound):
        access_collection(alice, pk)
