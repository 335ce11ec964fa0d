"""Documents by the API: uploaded, watched, read as models see them, downloaded, deleted."""

import stat

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import AuditEvent, Scope, Team
from conftest import bearer, sign_in_client
from embeddings import deletion, ingestion, storage
from embeddings.models import Chunk, Collection, Document, DocumentVersion, Page
from embeddings.tests.documents import TEXT, upload, work

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"


@pytest.fixture
def synced(monkeypatch):
    """The collections whose indexes were told of a change."""
    told = []
    monkeypatch.setattr(ingestion, "sync", told.append)
    monkeypatch.setattr(deletion, "sync", told.append)
    return told


@pytest.fixture
def client(alice):
    return Client(headers=bearer(alice))


@pytest.fixture
def collection(alice):
    return Collection.objects.create(owner=alice, name="Animals")


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestUpload:
    def test_a_file_waits_in_the_queue_and_is_ready_when_a_worker_was_there(
        self, client, collection, synced, model_process
    ):
        answer = upload(client, collection=collection.pk)

        assert answer.status_code == 202
        assert answer.json()["status"] == "queued"
        assert [ended.how for ended in work()] == ["done"]
        shown = client.get(f"/api/documents/{answer.json()['id']}").json()
        assert (shown["status"], shown["progress"], shown["error"]) == ("ready", 100, None)
        assert (shown["is_searched"], shown["language"], shown["pages"]) == (True, "en", None)
        assert [version["is_current"] for version in shown["versions"]] == [True]
        assert Chunk.objects.current().count() == Chunk.objects.count() > 0
        assert synced == [collection.pk]

    def test_it_is_stored_under_a_name_of_our_own_for_us_alone(self, client, collection, settings):
        upload(client, name="../../x.txt", collection=collection.pk)

        [path] = settings.MEDIA_ROOT.rglob("*-*")
        assert files_below(settings.MEDIA_ROOT) == [DocumentVersion.objects.get().file]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert Document.objects.get().name == "x.txt"

    def test_without_a_collection_it_goes_into_a_private_one_of_ones_own(self, client, alice):
        first = upload(client, "one fox", name="one.txt").json()
        second = upload(client, "two foxes", name="two.txt").json()

        [collection] = Collection.objects.all()
        assert first["collection"] == second["collection"] == str(collection.pk)
        assert (collection.owner, collection.visibility, collection.is_default) == (alice, "private", True)

    def test_the_same_content_again_is_the_same_document(self, client, collection, settings):
        first = upload(client, collection=collection.pk)
        again = upload(client, name="other.txt", collection=collection.pk)

        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        assert Document.objects.count() == DocumentVersion.objects.count() == 1
        assert len(files_below(settings.MEDIA_ROOT)) == 1

    def test_a_file_that_becomes_like_another_one_is_a_new_version_of_its_own(
        self, client, collection, synced, model_process
    ):
        upload(client, "january", name="january.txt", collection=collection.pk)
        pk = upload(client, "february", name="current.txt", collection=collection.pk).json()["id"]
        work()
        answer = upload(client, "january", name="current.txt", collection=collection.pk)
        work()

        assert (answer.status_code, answer.json()["id"]) == (202, pk)
        assert [page["text"] for page in pages_of(client, pk)] == ["january"]
        assert upload(client, "january", name="current.txt", collection=collection.pk).json()["id"] == pk

    def test_the_same_content_in_another_collection_is_another_document(self, client, collection, alice):
        other = Collection.objects.create(owner=alice, name="Plants")
        upload(client, collection=collection.pk)

        assert upload(client, collection=other.pk).status_code == 202
        assert Document.objects.count() == 2

    def test_the_content_before_last_is_a_new_version_again(self, client, collection):
        for content in ("old words", "new words", "old words"):
            assert upload(client, content, collection=collection.pk).status_code == 202

        assert list(DocumentVersion.objects.order_by("number").values_list("number", flat=True)) == [1, 2, 3]

    def test_another_content_of_the_same_name_takes_its_place_when_it_is_ready(
        self, client, collection, synced, model_process, settings
    ):
        pk = upload(client, "The old fox is grey.", collection=collection.pk).json()["id"]
        work()
        version = Collection.objects.get().version
        assert upload(client, "The new fox is red.", collection=collection.pk).json()["id"] == pk
        assert [page["text"] for page in pages_of(client, pk)] == ["The old fox is grey."]
        work()

        assert [page["text"] for page in pages_of(client, pk)] == ["The new fox is red."]
        assert DocumentVersion.objects.get().number == 2
        assert len(files_below(settings.MEDIA_ROOT)) == 1
        assert Collection.objects.get().version == version + 1

    def test_what_upper_apps_keep_of_the_version_before_goes_with_it(
        self, client, collection, synced, model_process, monkeypatch
    ):
        forgotten = []
        monkeypatch.setattr(deletion, "_forgetters", [lambda *given: forgotten.append(given)])
        upload(client, "The number is 555-1234.", collection=collection.pk)
        work()
        old = DocumentVersion.objects.get()
        upload(client, "The number has been removed.", collection=collection.pk)
        work()

        assert forgotten == [([old.document_id], [old.pk])]

    def test_a_file_that_is_refused_leaves_nothing(self, client, collection, settings):
        answer = upload(client, "MZ\x90\x00", name="fox.exe", collection=collection.pk)

        assert answer.status_code == 415
        assert answer.json()["error"]["field"] == "file"
        assert files_below(settings.MEDIA_ROOT) == []
        assert not Document.objects.exists()

    def test_one_that_is_too_large_leaves_nothing(self, client, collection, settings):
        settings.MAX_UPLOAD_MB = 0.01
        answer = upload(client, "x" * 20_000, collection=collection.pk)

        assert answer.status_code == 413
        assert files_below(settings.MEDIA_ROOT) == []

    @pytest.mark.parametrize(
        ("data", "field"),
        [({}, "file"), ({"other": "x"}, "other"), ({"collection": "x"}, "file")],
    )
    def test_a_form_that_makes_no_sense_names_the_field(self, client, data, field):
        answer = client.post("/api/documents", data)

        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)

    def test_other_bodies_are_refused(self, client):
        answer = client.post("/api/documents", "{}", content_type="application/json")
        assert answer.status_code == 415

    def test_a_hundred_thousand_parts_are_refused(self, client, settings):
        data = {f"field{number}": "x" for number in range(2_000)}
        answer = client.post("/api/documents", data)

        assert answer.status_code == 413
        assert files_below(settings.MEDIA_ROOT) == []

    def test_a_form_that_is_cut_short_is_told_as_one(self, client, settings):
        head = '--b\r\nContent-Disposition: form-data; name="file"; filename="fox.txt"\r\n\r\nThe fox.'
        for end in ("", "\r\n--", "\r\n--b"):
            answer = client.post("/api/documents", head + end, content_type="multipart/form-data; boundary=b")

            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == "The form could not be read to its end."
        assert files_below(settings.MEDIA_ROOT) == []

    def test_the_text_of_a_file_counts_where_it_is_more_than_the_file(self, client, collection, settings):
        settings.STORAGE_QUOTA_MB = 0.001
        upload(client, "x " * 100, collection=collection.pk)
        DocumentVersion.objects.update(characters=900)
        answer = upload(client, "y " * 100, name="other.txt", collection=collection.pk)

        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_used_up")

    def test_what_would_be_over_the_quota_is_refused(self, client, collection, settings):
        settings.STORAGE_QUOTA_MB = 0.001
        assert upload(client, "x " * 100, collection=collection.pk).status_code == 202
        answer = upload(client, "y " * 600, name="other.txt", collection=collection.pk)

        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_used_up")
        assert len(files_below(settings.MEDIA_ROOT)) == 1

    def test_a_browser_uploads_with_its_proof_in_a_header_and_not_without(self, alice, collection):
        browser = Client(enforce_csrf_checks=True)
        sign_in_client(browser, alice)
        token = browser.get("/api/auth/csrf").json()["csrf_token"]

        assert upload(browser, collection=collection.pk).status_code == 403
        assert upload(browser, collection=collection.pk, **{"X-CSRFToken": token}).status_code == 202


class TestWhoMayUpload:
    def test_nobody_who_is_unknown(self, settings):
        assert upload(Client()).status_code == 401
        form = {"file": SimpleUploadedFile("fox.txt", b"The fox.")}
        sent = Client().post("/documents/upload/", form)
        assert (sent.status_code, sent["Location"].split("?")[0]) == (302, "/login/")
        assert files_below(settings.MEDIA_ROOT) == []

    def test_no_key_without_the_scope(self, alice, settings):
        client = Client(headers=bearer(alice, scopes=[Scope.CHAT]))
        assert upload(client).status_code == 403
        assert files_below(settings.MEDIA_ROOT) == []

    @pytest.mark.parametrize("visibility", ["private", "public"])
    def test_nobody_but_its_owner(self, bob, collection, visibility, settings):
        Collection.objects.update(visibility=visibility)

        assert upload(Client(headers=bearer(bob)), collection=collection.pk).status_code == 404
        assert files_below(settings.MEDIA_ROOT) == []
        assert not Document.objects.exists()


def pages_of(client, pk, start=1):
    return client.get(f"/api/documents/{pk}/pages?from={start}").json()["results"]


@pytest.fixture
def document(client, collection, synced, model_process):
    pk = upload(client, collection=collection.pk).json()["id"]
    work()
    return Document.objects.get(pk=pk)


class TestReading:
    def test_the_list_is_of_one_collection_or_of_all(self, client, document, alice, bob):
        for owner in (alice, bob):
            collection = Collection.objects.create(owner=owner, name="Other")
            upload(Client(headers=bearer(owner)), "other words", collection=collection.pk)

        def names(query=""):
            return [row["name"] for row in client.get(f"/api/documents{query}").json()["results"]]

        assert len(names()) == 2
        assert names(f"?collection={document.collection_id}") == ["fox.txt"]
        assert client.get(f"/api/documents?collection={collection.pk}").status_code == 404
        assert client.get("/api/documents?collection=x").status_code == 400

    def test_the_list_costs_the_same_for_any_number(self, client, collection, django_assert_num_queries):
        def add(count):
            for _ in range(count):
                number = Document.objects.count()
                upload(client, f"words {number}", name=f"{number}.txt", collection=collection.pk)

        add(1)
        client.get("/api/documents")
        with django_assert_num_queries(2):
            client.get("/api/documents")
        add(5)
        with django_assert_num_queries(2):
            assert len(client.get("/api/documents").json()["results"]) == 6

    def test_one_whose_versions_are_just_being_removed_is_listed_as_one_that_waits(self, client, collection):
        document = Document.objects.create(collection=collection, name="fox.txt")

        [row] = client.get("/api/documents").json()["results"]

        assert (row["status"], row["error"], row["pages"], row["size"]) == ("queued", None, None, 0)
        assert client.get(f"/api/documents/{document.pk}").json()["versions"] == []

    def test_its_pages_are_its_text(self, client, document):
        assert pages_of(client, document.pk) == [{"page": None, "text": TEXT}]
        assert pages_of(client, document.pk, 2) == []
        assert client.get(f"/api/documents/{document.pk}/pages?from=x").status_code == 400

    def test_long_documents_are_given_in_parts(self, client, document):
        version = document.current
        version.pages.all().delete()
        Page.objects.bulk_create(Page(version=version, number=number, text="x") for number in range(1, 31))
        DocumentVersion.objects.update(is_paged=True, pages_total=30)

        first = client.get(f"/api/documents/{document.pk}/pages").json()
        assert (len(first["results"]), first["next"], first["pages"]) == (20, 21, 30)
        assert [page["page"] for page in pages_of(client, document.pk, first["next"])] == list(range(21, 31))

    def test_the_file_is_a_download_that_runs_nowhere(self, client, document):
        Document.objects.update(name='fö"x;.txt')
        answer = client.get(f"/api/documents/{document.pk}/file")

        assert b"".join(answer.streaming_content) == TEXT.encode()
        assert answer["Content-Disposition"] == "attachment; filename*=utf-8''f%C3%B6%22x%3B.txt"
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer["Content-Security-Policy"]
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"

    def test_those_of_a_team_read_what_is_shared_with_it(self, document, alice, bob, charlie):
        team = Team.objects.create(name="Foxes")
        team.members.set([alice, bob])
        Collection.objects.update(visibility="team", team=team)

        for path in ("", "/pages", "/file"):
            address = f"/api/documents/{document.pk}{path}"
            answer = Client(headers=bearer(bob)).get(address)
            assert answer.status_code == 200
            answer.getvalue()
            assert Client(headers=bearer(charlie)).get(address).status_code == 404


class TestDeleting:
    def test_it_is_out_of_sight_at_once_and_then_out_of_every_store(
        self, client, document, settings, synced, alice
    ):
        version = Collection.objects.get().version
        forgotten = []

        def forget(ids, versions=None):
            forgotten.append((ids, versions))

        deletion.register(forget)
        try:
            assert client.delete(f"/api/documents/{document.pk}").status_code == 202
            assert client.get(f"/api/documents/{document.pk}").status_code == 404
            assert client.get("/api/documents").json()["results"] == []
            assert not Chunk.objects.visible_to(alice).exists()
            assert Collection.objects.get().version == version + 1
            work()
        finally:
            deletion._forgetters.remove(forget)

        assert files_below(settings.MEDIA_ROOT) == []
        assert forgotten == [([document.pk], None)]
        assert synced[-1] == document.collection_id
        for model in (Document, DocumentVersion, Page, Chunk):
            assert not model.objects.exists()
        [event] = AuditEvent.objects.filter(kind="document_deleted")
        assert event.data == {"document": str(document.pk)}

    def test_a_store_that_is_away_is_tried_until_it_is_there(self, client, document, monkeypatch):
        from llmsite.core.errors import EmbedderUnavailable

        def away(_collection):
            raise EmbedderUnavailable

        monkeypatch.setattr(deletion, "sync", away)
        client.delete(f"/api/documents/{document.pk}")

        assert [ended.how for ended in work()] == ["waits"]
        assert Document.objects.get().deleting_at is not None
        assert not Chunk.objects.exists()

    def test_its_name_is_free_again_at_once(self, client, document):
        client.delete(f"/api/documents/{document.pk}")
        answer = upload(client, collection=document.collection_id)

        assert (answer.status_code, Document.objects.count()) == (202, 2)

    def test_who_may_read_it_may_not_delete_it(self, document, bob):
        Collection.objects.update(visibility="public")
        assert Client(headers=bearer(bob)).delete(f"/api/documents/{document.pk}").status_code == 404
        assert Document.objects.get().deleting_at is None

    def test_while_it_is_being_read_its_reading_comes_to_nothing(self, client, collection, synced, settings):
        pk = upload(client, collection=collection.pk).json()["id"]
        client.delete(f"/api/documents/{pk}")
        work()

        assert not Document.objects.exists()
        assert files_below(settings.MEDIA_ROOT) == []


def test_files_that_no_row_has_are_swept_away(client, collection, settings):
    upload(client, collection=collection.pk)
    (storage.path_of(storage.FOLDER) / "left-behind").write_text("secret")
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True)
    (settings.FILE_UPLOAD_TEMP_DIR / "half").write_text("secret")

    assert storage.sweep() == 0
    assert storage.sweep(older_than=-1) == 2
    assert files_below(settings.MEDIA_ROOT) == [DocumentVersion.objects.get().file]


def test_a_list_of_a_collection_without_a_name_is_refused(client):
    for given in ("", "nonsense"):
        answer = client.get("/api/documents", {"collection": given})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "collection")
