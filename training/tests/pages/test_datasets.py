"""The pages of data sets, without their script."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import roles
from conftest import sign_in_client
from training.importing import import_file
from training.models import Dataset, DatasetVersion
from training.tests.files import SFT, json_lines
from training.tests.making import make_run

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert('xss')</script>"


@pytest.fixture(autouse=True)
def _folders(settings, tmp_path):
    settings.DATASETS_ROOT = tmp_path / "datasets"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"


@pytest.fixture
def operator(make_user):
    user = make_user("olga")
    roles.set_roles(user, [roles.MEMBER, roles.OPERATOR])
    return user


@pytest.fixture
def page(client, operator):
    sign_in_client(client, operator)
    return client


@pytest.fixture
def make(operator, tmp_path):
    def make(rows=SFT, name="Animals", **values) -> DatasetVersion:
        path = tmp_path / "upload.jsonl"
        path.write_bytes(json_lines(rows))
        return import_file(path, "animals.jsonl", dataset=name, user=operator, **values).version

    return make


def send(client, content: bytes, action: str = "upload", file: str = "set.jsonl", **fields):
    form = {"name": "Animals", **fields, "file": SimpleUploadedFile(file, content)}
    return client.post(f"/training/datasets/{action}/", form)


def text_of(answer) -> str:
    return answer.content.decode()


def test_a_file_becomes_a_data_set_and_its_page_shows_it(page):
    answer = send(page, json_lines(SFT))
    version = DatasetVersion.objects.get()
    shown = page.get(answer["Location"])

    assert answer["Location"] == f"/training/datasets/{version.dataset_id}/?version=1"
    text = text_of(shown)
    assert "Animals, version 1: 3 rows." in text
    assert version.sha256 in text
    assert "What is a fox?" in text
    assert "no row is known to come from feedback" in text


def test_a_file_is_looked_at_without_being_stored(page):
    answer = send(page, json_lines([*SFT, {"prompt": "a"}]), "preview", name="My set")

    text = text_of(answer)
    assert answer.status_code == 200
    assert "set.jsonl: 3 rows" in text
    assert "1 row is not right." in text
    assert "Line 4: “completion” is missing or empty." in text
    assert "<code>prompt</code></th><td>the question</td>" in text
    assert 'value="My set"' in text
    assert not Dataset.objects.exists()


@pytest.mark.parametrize("action", ["upload", "preview"])
@pytest.mark.parametrize(
    ("content", "file", "status", "said"),
    [
        (b"\x80\x05", "set.pkl", 415, "Data sets are taken as JSON"),
        (b"{", "set.json", 422, "Line 1: This is not valid JSON."),
    ],
)
def test_what_is_not_taken_says_why(page, action, content, file, status, said):
    answer = send(page, content, action, file)
    assert (answer.status_code, said in text_of(answer)) == (status, True)
    assert not Dataset.objects.exists()


def test_bad_rows_refuse_the_file_unless_they_are_left_out(page):
    content = json_lines([*SFT, {"prompt": "a"}])
    refused = send(page, content)
    taken = send(page, content, leave_out_bad="on")

    assert (refused.status_code, taken.status_code) == (422, 302)
    assert "Line 4: “completion” is missing or empty." in text_of(refused)
    assert "1 row was left out." in text_of(page.get(taken["Location"]))


@pytest.mark.parametrize("fields", [{"name": ""}, {"columns": "nonsense"}])
def test_a_form_that_makes_no_sense_is_shown_again(page, fields):
    answer = send(page, json_lines(SFT), **fields)
    assert (answer.status_code, "field-error" in text_of(answer)) == (400, True)
    assert not Dataset.objects.exists()


def test_a_form_without_a_file(page):
    answer = page.post("/training/datasets/upload/", {"name": "Animals"})
    assert (answer.status_code, "Choose a file first." in text_of(answer)) == (400, True)


def test_without_feedback_nothing_is_built(page):
    answer = page.post("/training/datasets/build/", {"name": "Corrections", "format": "sft"})
    assert (answer.status_code, "There is no accepted feedback" in text_of(answer)) == (422, True)


def test_the_same_rows_again_are_told_as_what_they_are(page):
    send(page, json_lines(SFT))
    answer = send(page, json_lines(SFT))
    assert "Animals has these very rows already, as version 1." in text_of(page.get(answer["Location"]))


def test_text_of_rows_names_and_files_stays_text(page, make):
    row = {"prompt": HOSTILE, "completion": f"{HOSTILE} yes"}
    version = make([row, *SFT], name=HOSTILE)
    DatasetVersion.objects.update(
        origin={**version.origin, "file": HOSTILE, "mapping": {HOSTILE: "question"}}
    )
    looked_at = send(page, json_lines([row, {HOSTILE: "a"}]), "preview", file="<b>.jsonl")

    for answer in (
        page.get("/training/datasets/"),
        page.get(f"/training/datasets/{version.dataset_id}/"),
        looked_at,
    ):
        assert "<script>alert" not in text_of(answer)
        assert "&lt;script&gt;alert" in text_of(answer)


def test_a_long_set_is_shown_in_parts(page, make):
    version = make([{"prompt": f"Question {at}?", "completion": "x"} for at in range(45)])
    first = text_of(page.get(f"/training/datasets/{version.dataset_id}/"))
    last = text_of(page.get(f"/training/datasets/{version.dataset_id}/?version=1&from=41"))

    assert "1 to 20 of 45" in first
    assert "from=21" in first
    assert "41 to 45 of 45" in last
    assert "Question 40?" in last
    assert "Next rows" not in last


def test_an_older_version_is_shown_where_it_is_asked_for(page, make):
    make()
    version = make(SFT[:2])
    address = f"/training/datasets/{version.dataset_id}/"

    assert "version 2" in text_of(page.get(address))
    assert "What is a fox?" in text_of(page.get(f"{address}?version=1"))
    assert page.get(f"{address}?version=7").status_code == 404


def test_a_file_that_was_changed_is_told(page, make, settings):
    version = make()
    [path] = settings.DATASETS_ROOT.rglob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"fox", b"cat"))
    text = text_of(page.get(f"/training/datasets/{version.dataset_id}/"))
    assert "is gone or was changed" in text
    assert "What is a cat?" not in text


def test_it_is_deleted_unless_a_run_stands_on_it(page, make):
    version, used = make(), make(SFT[:2], name="Used")
    make_run(version=used)
    page.post(f"/training/datasets/{version.dataset_id}/delete/")
    kept = page.post(f"/training/datasets/{used.dataset_id}/delete/", follow=True)

    assert [row.name for row in Dataset.objects.all()] == ["Used"]
    assert "A training run stands on “Used”" in text_of(kept)


class TestTheList:
    def test_more_of_them_ask_no_more_of_the_database(self, page, make):
        def queries() -> int:
            with CaptureQueriesContext(connection) as found:
                assert page.get("/training/datasets/").status_code == 200
            return len(found)

        make_run(version=make())
        queries()  # what is asked once a process
        one = queries()
        Dataset.objects.bulk_create(Dataset(name=f"Set {number}") for number in range(20))
        assert queries() == one

    def test_it_goes_on_behind_a_link(self, page, monkeypatch):
        monkeypatch.setattr("training.pages.datasets.SHOWN", 2)
        Dataset.objects.bulk_create(Dataset(name=f"Set {number}") for number in range(3))
        first = page.get("/training/datasets/")
        second = page.get(first.context["older"])
        names = [row.name for answer in (first, second) for row in answer.context["datasets"]]
        assert sorted(names) == ["Set 0", "Set 1", "Set 2"]
        assert second.context["older"] == ""


@pytest.mark.parametrize("role", [[roles.MEMBER], [roles.MEMBER, roles.CURATOR]])
def test_it_is_for_operators(client, alice, role, make):
    pk = make().dataset_id
    roles.set_roles(alice, role)
    sign_in_client(client, alice)

    for address in ("", f"{pk}/"):
        assert client.get(f"/training/datasets/{address}").status_code == 403
    for address in ("upload/", "preview/", "build/", f"{pk}/delete/"):
        assert client.post(f"/training/datasets/{address}").status_code == 403
    assert Dataset.objects.exists()
