"""The page of documents, without its script."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Team
from conftest import sign_in_client
from embeddings.deletion import delete_collection
from embeddings.models import Collection, Status, access_collection
from embeddings.tests.pages.conftest import make_document, make_version

pytestmark = pytest.mark.django_db


def page_of(client, user, collection=None, **query):
    sign_in_client(client, user)
    chosen = {"collection": collection.pk} if collection else {}
    return client.get("/documents/", {**chosen, **query})


def text_of(answer) -> str:
    return answer.content.decode()


def test_each_document_says_how_far_it_is(client, alice, shelf):
    make_document(shelf, "ready.pdf", pages=["one", "two", "three"])
    make_document(shelf, "moving.pdf", status=Status.EMBEDDING, progress=42)
    make_document(shelf, "locked.pdf", status=Status.FAILED, error="encrypted")

    text = text_of(page_of(client, alice, shelf))

    assert 'data-status="ready"' in text
    assert '<td class="is-number is-wide-only">3</td>' in text
    assert "English" in text
    assert 'value="42"' in text
    assert "It is protected with a password. Save it without one and upload it again." in text
    assert 'data-running="true"' in text


def test_where_nothing_is_on_its_way_nobody_has_to_look_again(client, alice, shelf):
    make_document(shelf)
    make_document(shelf, "locked.pdf", status=Status.FAILED, error="encrypted")

    assert 'data-running="false"' in text_of(page_of(client, alice, shelf))


def test_a_new_version_says_that_the_former_is_in_use_still(client, alice, shelf):
    document = make_document(shelf)
    make_version(document, number=2, status=Status.PARSING)

    text = text_of(page_of(client, alice, shelf))

    assert 'data-status="parsing"' in text
    assert "Its former version is still in use." in text


def test_more_documents_ask_no_more_of_the_database(client, alice, shelf):
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert page_of(client, alice, shelf).status_code == 200
        return len(found)

    make_document(shelf)
    queries()  # what is asked once a process
    one = queries()
    for number in range(12):
        make_document(shelf, f"{number}.pdf")
        Collection.objects.create(owner=alice, name=f"Shelf {number}")

    assert queries() == one


def test_a_long_list_goes_on_behind_a_link(client, alice, shelf, monkeypatch):
    monkeypatch.setattr("embeddings.pages.listing.SHOWN", 2)
    names = [f"{number}.pdf" for number in range(5)]
    for name in names:
        make_document(shelf, name)
    seen, answer = [], page_of(client, alice, shelf)
    while True:
        seen += [line.document.name for line in answer.context["lines"]]
        if not answer.context["next_documents"]:
            break
        answer = client.get(answer.context["next_documents"])

    assert seen == names[::-1]


def test_a_name_is_text_and_nothing_else(client, alice, shelf):
    make_document(shelf, "<script>alert(1)</script>.pdf")

    text = text_of(page_of(client, alice, shelf))

    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_without_documents_the_page_says_what_to_do(client, alice):
    text = text_of(page_of(client, alice))

    assert "No documents yet. Upload some" in text
    assert 'type="file"' in text


def test_documents_that_are_not_english_bring_a_hint(client, alice, shelf, settings):
    settings.EMBEDDING_MODEL = "all-MiniLM-L6-v2"
    make_document(shelf)
    assert "EMBEDDING_MODEL=" not in text_of(page_of(client, alice, shelf))

    make_document(shelf, "zorros.pdf", language="es")

    assert "EMBEDDING_MODEL=multilingual-e5-small" in text_of(page_of(client, alice, shelf))


def test_the_page_speaks_spanish(client, alice, shelf):
    make_document(shelf, "locked.pdf", status=Status.FAILED, error="encrypted")
    sign_in_client(client, alice)

    text = text_of(client.get("/documents/", headers={"Accept-Language": "es"}))

    assert "Nueva colección" in text
    assert "contraseña" in text


# --- Who may read, and who may change ----------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["team", "public"])
def test_readers_read_and_change_nothing(client, alice, bob, shelf, visibility):
    team = Team.objects.create(name="Research")
    team.members.add(bob)
    Collection.objects.filter(pk=shelf.pk).update(visibility=visibility, team=team)
    document = make_document(shelf)

    answer = page_of(client, bob, shelf)

    assert answer.status_code == 200
    assert "foxes.pdf" in text_of(answer)
    assert "alice shares these documents with you." in text_of(answer)
    for mark in ('type="file"', "Delete the document", "Rename or share"):
        assert mark not in text_of(answer)
    assert client.get(f"/documents/{document.pk}/").status_code == 200
    for path in (f"{document.pk}/delete/", f"collections/{shelf.pk}/", f"collections/{shelf.pk}/delete/"):
        assert client.post(f"/documents/{path}", {"name": "Mine", "visibility": "private"}).status_code == 404
    assert client.post("/documents/upload/", {"collection": shelf.pk}).status_code == 404
    shelf.refresh_from_db()
    assert (shelf.name, shelf.deleting_at) == ("Field notes", None)


def test_a_stranger_finds_no_collection_and_no_document(client, charlie, shelf):
    document = make_document(shelf)

    assert page_of(client, charlie, shelf).status_code == 404
    assert client.get(f"/documents/{document.pk}/").status_code == 404
    assert "Field notes" not in text_of(page_of(client, charlie))
    assert client.get("/documents/?collection=nonsense").status_code == 404


def test_the_place_in_a_foreign_list_shows_nothing_of_it(client, alice, charlie, shelf):
    """`before` names a document; one that is out of reach is like one that is not there."""
    foreign = make_document(Collection.objects.create(owner=charlie, name="Secret"))
    make_document(shelf, "older.pdf")

    text = text_of(page_of(client, alice, shelf, before=foreign.pk))

    assert "older.pdf" in text


# --- Collections --------------------------------------------------------------------------------------


def test_a_collection_is_made_renamed_and_shared(client, alice):
    team = Team.objects.create(name="Research")
    team.members.add(alice)
    sign_in_client(client, alice)

    client.post("/documents/collections/", {"name": "Notes", "visibility": "private"})
    made = Collection.objects.get(owner=alice)
    answer = client.post(
        f"/documents/collections/{made.pk}/", {"name": "Papers", "visibility": "team", "team": team.pk}
    )

    changed = Collection.objects.get(owner=alice)
    assert answer["Location"] == f"/documents/?collection={made.pk}"
    assert (changed.name, changed.visibility, changed.team) == ("Papers", "team", team)
    assert changed.version > made.version


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "", "visibility": "private"}, "name"),
        ({"name": "Field notes", "visibility": "private"}, "name"),
        ({"name": "New", "visibility": "secret"}, "visibility"),
        ({"name": "New", "visibility": "team"}, "visibility"),
    ],
)
def test_what_is_no_collection_is_refused_with_the_reason(client, alice, shelf, values, field):
    sign_in_client(client, alice)

    answer = client.post("/documents/collections/", values)

    assert answer.status_code == 400
    assert list(answer.context["new_form"].errors) == [field]
    assert Collection.objects.count() == 1


def test_a_collection_is_shared_with_no_team_of_others(client, alice, bob, shelf):
    own, foreign = Team.objects.create(name="Own"), Team.objects.create(name="Foreign")
    own.members.add(alice)
    foreign.members.add(bob)
    sign_in_client(client, alice)

    values = {"name": "Field notes", "visibility": "team", "team": foreign.pk}
    answer = client.post(f"/documents/collections/{shelf.pk}/", values)

    assert answer.status_code == 400
    assert Collection.objects.get(pk=shelf.pk).visibility == "private"


def test_a_change_of_what_was_deleted_meanwhile_brings_nothing_back(client, alice, shelf, monkeypatch):
    def read_and_delete(user, pk, **values):
        collection = access_collection(user, pk, **values)
        delete_collection(collection, actor=user)
        return collection

    monkeypatch.setattr("embeddings.pages.collections.access_collection", read_and_delete)
    sign_in_client(client, alice)

    answer = client.post(f"/documents/collections/{shelf.pk}/", {"name": "New", "visibility": "public"})

    assert answer.status_code == 404
    assert not Collection.objects.visible_to(alice).exists()


def test_a_refused_change_shows_the_collection_as_it_is(client, alice, shelf):
    Collection.objects.create(owner=alice, name="Taken")
    sign_in_client(client, alice)

    values = {"name": "Taken", "visibility": "public"}
    answer = client.post(f"/documents/collections/{shelf.pk}/", values)

    assert answer.status_code == 400
    assert answer.context["collection"].name == "Field notes"
    assert "You have a collection of this name already." in text_of(answer)
    assert Collection.objects.get(pk=shelf.pk).visibility == "private"
