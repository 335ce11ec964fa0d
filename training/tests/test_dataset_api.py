"""Data sets by the API: made of files and of feedback, looked at, read, deleted."""

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import roles
from accounts.models import AuditEvent, Scope
from conftest import bearer
from training import storage
from training.models import Dataset, DatasetVersion
from training.rows import read_rows
from training.tests.files import PAIRS, SFT, json_lines, json_list, look, upload
from training.tests.making import make_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def root(settings, tmp_path):
    settings.DATASETS_ROOT = tmp_path / "datasets"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    return settings.DATASETS_ROOT


@pytest.fixture
def operator(make_user):
    user = make_user("olga")
    roles.set_roles(user, [roles.MEMBER, roles.OPERATOR])
    return user


@pytest.fixture
def program(operator):
    return Client(headers=bearer(operator))


@pytest.fixture
def tokenizer(settings, tmp_path):
    """A tokenizer of the local model: each word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "model"
    folder.mkdir()
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))
    settings.LOCAL_MODEL_PATH = str(folder)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def error_of(answer) -> str:
    return answer.json()["error"]["message"]


class TestFromAFile:
    def test_it_becomes_a_version_with_its_hash_and_where_it_comes_from(self, program, root, operator):
        answer = upload(program, json_lines(SFT), file="animals.jsonl")

        assert answer.status_code == 201
        shown = answer.json()
        [version] = shown["versions"]
        assert (shown["name"], version["number"], version["layout"], version["row_count"]) == (
            "Animals",
            1,
            "sft",
            3,
        )
        assert version["origin"]["file"] == "animals.jsonl"
        assert version["origin"]["mapping"] == {"prompt": "question", "completion": "answer"}
        [path] = files_below(root)
        assert path == f"{version['id']}/{version['sha256']}.jsonl"
        content = (root / path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == version["sha256"]
        assert [json.loads(line)["messages"][0]["content"] for line in content.splitlines()] == [
            asked for asked, _ in PAIRS
        ]
        event = AuditEvent.objects.get(kind="dataset_made")
        assert (event.actor, event.data["version"]) == (operator.pseudonym, 1)

    def test_nobody_else_on_the_machine_reads_its_file(self, program, root):
        upload(program, json_lines(SFT))
        assert stat.S_IMODE(root.stat().st_mode) == 0o700

    def test_other_rows_by_the_same_name_are_its_next_version(self, program):
        upload(program, json_lines(SFT))
        answer = upload(program, json_lines(SFT[:2]))

        assert answer.status_code == 201
        assert [version["number"] for version in answer.json()["versions"]] == [2, 1]

    def test_the_same_rows_are_the_same_version_whatever_file_they_come_in(self, program, root):
        first = upload(program, json_lines(SFT)).json()
        answer = upload(program, json_list(SFT), file="again.json")

        assert (answer.status_code, answer.json()) == (200, first)
        assert len(files_below(root)) == 1

    def test_columns_by_other_names_are_given(self, program):
        content = "frage;antwort\nWas ist ein Fuchs?;Ein Tier.\nWo wohnt er?;Im Wald.\n"
        refused = upload(program, content, file="fuchs.csv")
        taken = upload(program, content, file="fuchs.csv", columns="prompt=Frage, completion=Antwort")

        assert refused.status_code == 422
        assert "frage, antwort" in error_of(refused)
        assert taken.status_code == 201
        [first, _] = read_rows(DatasetVersion.objects.get())
        assert first["messages"][0] == {"role": "user", "content": "Was ist ein Fuchs?"}

    def test_its_rows_are_shown_a_page_at_a_time(self, program):
        many = [{"prompt": f"Question {at}?", "completion": f"Answer {at}."} for at in range(25)]
        pk = upload(program, json_lines(many)).json()["id"]
        first = program.get(f"/api/training/datasets/{pk}/rows").json()
        second = program.get(
            f"/api/training/datasets/{pk}/rows", {"from": first["next"], "version": 1}
        ).json()

        assert (first["rows"], len(first["results"]), first["next"]) == (25, 20, 21)
        assert (len(second["results"]), second["next"]) == (5, None)
        assert second["results"][0]["messages"][0]["content"] == "Question 20?"

    @pytest.mark.parametrize(
        ("query", "status"), [({"version": 2}, 404), ({"from": "0"}, 400), ({"version": "x"}, 400)]
    )
    def test_rows_that_are_not_there(self, program, query, status):
        pk = upload(program, json_lines(SFT)).json()["id"]
        assert program.get(f"/api/training/datasets/{pk}/rows", query).status_code == status

    def test_a_file_that_was_changed_is_told_and_not_shown(self, program, root, caplog):
        pk = upload(program, json_lines(SFT)).json()["id"]
        [path] = files_below(root)
        content = bytearray((root / path).read_bytes())
        content[20] ^= 1
        (root / path).write_bytes(content)
        answer = program.get(f"/api/training/datasets/{pk}/rows")

        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "dataset_damaged")
        assert "dataset_damaged" in caplog.text
        (root / path).unlink()
        assert program.get(f"/api/training/datasets/{pk}/rows").status_code == 409


class TestRefusals:
    """Each is a clear error, and nothing of it is kept."""

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self, root, settings, db):
        yield
        assert files_below(root) == files_below(settings.FILE_UPLOAD_TEMP_DIR) == []
        assert not Dataset.objects.exists()
        assert not AuditEvent.objects.filter(kind="dataset_made").exists()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("set.pkl", b"\x80\x05\x95"),
            ("set.jsonl", b"\x80\x04\x95\x10\x00pickle"),
            ("set.npz", b"PK\x03\x04"),
            ("set.json", b"PK\x03\x04 and more"),
            ("set.zip", b"PK\x03\x04"),
            ("set.py", b"import os"),
            ("set.csv", b"\x93NUMPY\x01\x00"),
            ("set.txt", b"\x1f\x8b\x08\x00"),
            ("set.parquet", b'{"prompt": "x"}'),
            ("set.json", b"PAR1 and more"),
            ("set", b"{}"),
            ("../../set.ndjson", b"{}"),
        ],
    )
    def test_of_another_kind_than_its_name_says_or_than_is_read(self, program, name, content):
        answer = upload(program, content, file=name)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_dataset")
        assert answer.json()["error"]["field"] == "file"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "The file has no rows."),
            (json_lines(SFT[:1]), "this one has 1."),
            (
                b'{"prompt": "a", "completion": "b"}\n{"prompt": "a", completion',
                "Line 2: This is not valid JSON.",
            ),
            (b'{"prompt": "a", "completion": NaN}\n', "Line 1: This is not valid JSON."),
            (b'{"prompt": "a", "completion": "b"}\n["a"]\n', "Line 2: This is no JSON object."),
            (
                b'{"prompt": "a", "completion": "b"}\n\n{"prompt": "", "completion": "b"}',
                "Line 3: “prompt” is",
            ),
            (b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', "Line 2: “completion” is missing"),
            (b'{"prompt": "a\x00", "completion": "b"}\n' * 2, "Line 1: This is not valid JSON."),
            (b'{"prompt": "a\\u0000", "completion": "b"}\n' * 2, "“prompt” has the character U+0000 in it"),
            (b'{"prompt": "a\\ud800", "completion": "b"}\n' * 2, "“prompt” has the character U+D800 in it"),
            (
                b'{"prompt": "a", "completion": "b"}\n{"prompt": "\xff"}',
                "Line 2: The file is not text in UTF-8.",
            ),
            (
                b'{"prompt": "a", "completion": "b"}\n{"prompt": ["a"], "completion": "b"}',
                "Line 2: “prompt[0]”",
            ),
            (b'{"prompt": "' + b"a" * 1_000_001 + b'", "completion": "b"}\n', "Line 1: It is longer than"),
            (b'{"a": "b", "c": "d"}\n' * 3, "No known shape has these columns: a, c."),
        ],
    )
    def test_with_rows_that_are_not_right(self, program, content, said):
        answer = upload(program, content)

        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "dataset_unreadable")
        assert said in error_of(answer)

    def test_with_many_bad_rows_names_the_first_and_counts_the_others(self, program):
        answer = upload(program, json_lines([*SFT, *[{"prompt": "a"}] * 9]))
        assert error_of(answer).startswith("Line 4: “completion” is missing or empty. Line 5:")
        assert error_of(answer).endswith("And 6 more rows are not right.")

    @pytest.mark.parametrize("file", ["set.jsonl", "set.csv"])
    def test_with_ten_million_lines(self, program, file):
        answer = upload(program, b"{}\n" * 10_000_000, file=file)

        assert answer.status_code == 422
        assert "Line 5000001: The file has more than 5000000 lines." in error_of(answer)

    def test_nested_without_end(self, program):
        answer = upload(program, b'{"prompt": ' + b"[" * 200_000)
        assert (answer.status_code, "Line 1" in error_of(answer)) == (422, True)

    def test_too_large(self, program, settings):
        settings.MAX_UPLOAD_MB = 0.01
        assert upload(program, b"x" * 20_000).status_code == 413

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"name": " "}, "name"),
            ({"name": "x" * 101}, "name"),
            ({"name": "a\x07b"}, "name"),
            ({"columns": "file=x"}, "columns"),
            ({"columns": "prompt"}, "columns"),
            ({"leave_out_bad": "maybe"}, "leave_out_bad"),
            ({"other": "x"}, "other"),
        ],
    )
    def test_a_form_that_makes_no_sense_names_the_field(self, program, fields, field):
        answer = upload(program, json_lines(SFT), **fields)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)

    def test_without_a_file(self, program):
        answer = program.post("/api/training/datasets", {"name": "Animals"})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "file")

    @pytest.mark.parametrize(
        "source", ["https://example.org/set.jsonl", "/etc/passwd", "../media/set.jsonl", "file:///etc/passwd"]
    )
    def test_a_path_or_an_address_in_a_files_place(self, program, source):
        for body in (
            {"source": source, "name": "Animals"},
            {"source": "feedback", "name": "A", "file": source},
        ):
            answer = program.post("/api/training/datasets", json.dumps(body), content_type="application/json")
            assert answer.status_code == 400

    def test_other_bodies(self, program):
        assert program.post("/api/training/datasets", "x", content_type="text/plain").status_code == 415

    def test_a_full_disk(self, program, monkeypatch):
        def full(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(storage.os, "fsync", full)
        answer = upload(program, json_lines(SFT))
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")

    @pytest.mark.parametrize("step", ["insert", "record"])
    def test_a_fall_in_the_middle(self, operator, monkeypatch, step):
        program = Client(headers=bearer(operator), raise_request_exception=False)
        monkeypatch.setattr(f"training.versions.{step}", lambda *args, **values: 1 / 0)
        assert upload(program, json_lines(SFT)).status_code == 500

    @pytest.mark.parametrize("scopes", [[Scope.CHAT], [Scope.DOCUMENTS, Scope.FEEDBACK]])
    def test_by_a_key_of_another_scope(self, operator, scopes):
        assert upload(Client(headers=bearer(operator, scopes=scopes)), json_lines(SFT)).status_code == 403

    @pytest.mark.parametrize("role", [[roles.MEMBER], [roles.MEMBER, roles.CURATOR]])
    def test_by_who_does_not_run_the_site(self, alice, role):
        roles.set_roles(alice, role)
        program = Client(headers=bearer(alice))
        assert upload(program, json_lines(SFT)).status_code == 403
        assert look(program, json_lines(SFT)).status_code == 403
        assert program.get("/api/training/datasets").status_code == 403

    def test_by_nobody(self):
        assert upload(Client(), json_lines(SFT)).status_code == 401


class TestLeavingOut:
    def test_what_is_not_right_stays_out_and_is_named(self, program):
        answer = upload(program, json_lines([SFT[0], {"prompt": "a"}, *SFT[1:]]), leave_out_bad="true")

        assert answer.status_code == 201
        [version] = answer.json()["versions"]
        assert version["row_count"] == 3
        left_out = version["origin"]["left_out"]
        assert (left_out["rows"], left_out["first"][0]["line"]) == (1, 2)

    def test_what_a_model_does_not_take_does_too(self, program, tokenizer):
        rows = [*SFT, {"prompt": "Count!", "completion": "one two " * 1500}]
        kept = upload(program, json_lines(rows)).json()["versions"][0]
        shorter = upload(program, json_lines(rows), leave_out_bad="true").json()["versions"][0]

        assert kept["report"]["tokens"]["over"] == {"limit": 2048, "rows": 1, "lines": [4]}
        assert (kept["row_count"], shorter["row_count"]) == (4, 3)
        assert shorter["origin"]["left_out"]["first"][0]["code"] == "too_many_tokens"

    def test_one_row_that_is_left_is_no_data_set(self, program):
        answer = upload(program, json_lines([SFT[0], {"prompt": "a"}]), leave_out_bad="true")
        assert (answer.status_code, Dataset.objects.exists()) == (422, False)


class TestLookingFirst:
    def test_it_shows_shape_mapping_rows_and_what_is_wrong_and_stores_nothing(self, program, root):
        answer = look(program, json_lines([*SFT, {"prompt": "a"}]))

        assert answer.status_code == 200
        shown = answer.json()
        assert (shown["layout"], shown["shape"], shown["count"], shown["bad"]) == ("sft", "completion", 3, 1)
        assert shown["tools"] == 0
        assert shown["mapping"] == {"prompt": "question", "completion": "answer"}
        assert shown["problems"] == [
            {"line": 4, "code": "empty", "reason": "“completion” is missing or empty."}
        ]
        assert shown["rows"][0]["messages"][1]["content"] == "An animal."
        assert not Dataset.objects.exists()
        assert files_below(root) == []

    @pytest.mark.parametrize(
        "asked",
        [
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "count"}}]},
            {"role": "assistant", "content": "", "function_call": {"name": "count"}},
            {"role": "function_call", "content": "count"},
        ],
    )
    def test_that_tools_become_plain_chat_is_told(self, program, asked):
        calling = [{"role": "user", "content": "How many?"}, asked, {"role": "tool", "content": "2"}]
        rows = [{"messages": [*calling, {"role": "assistant", "content": "Two."}]}]
        plain = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "One."}]
        answer = look(program, json_lines([*rows, {"messages": plain}])).json()
        assert (answer["count"], answer["tools"]) == (2, 1)
        roles = [turn["role"] for turn in answer["rows"][0]["messages"]]
        assert roles == ["user", "assistant", "user", "assistant"]

    def test_it_takes_files_only(self, program):
        answer = program.post("/api/training/datasets/preview", "{}", content_type="application/json")
        assert answer.status_code == 415


class TestReport:
    def test_it_counts_lengths_duplicates_and_other_answers(self, program, tokenizer):
        rows = [
            *SFT,
            {"prompt": "what  is a FOX?", "completion": "an animal."},
            {"prompt": "What is a fox?", "completion": "A browser."},
        ]
        report = upload(program, json_lines(rows)).json()["versions"][0]["report"]

        assert report["tokens"]["unit"] == "tokens"
        assert report["duplicates"] == {"rows": 1, "lines": [4]}
        assert report["same_question"] == {"rows": 1, "lines": [5]}
        assert sum(count for _, count in report["tokens"]["bars"]) == 5

    def test_without_a_tokenizer_it_counts_characters(self, program, settings, tmp_path):
        settings.LOCAL_MODEL_PATH = str(tmp_path)
        tokens = upload(program, json_lines(SFT)).json()["versions"][0]["report"]["tokens"]

        assert (tokens["unit"], tokens["longest"]) == ("characters", len("Where do owls live?In the forest."))
        assert tokens["over"]["limit"] is None


class TestLists:
    def test_they_cost_the_same_however_many_there_are(self, program):
        def queries() -> int:
            with CaptureQueriesContext(connection) as found:
                assert program.get("/api/training/datasets").status_code == 200
            return len(found)

        upload(program, json_lines(SFT))
        queries()  # what is asked once a process
        one = queries()
        Dataset.objects.bulk_create(Dataset(name=f"Set {number}") for number in range(30))

        assert queries() == one == 2

    def test_a_page_ends_where_the_next_one_begins(self, program):
        Dataset.objects.bulk_create(Dataset(name=f"Set {number}") for number in range(5))
        first = program.get("/api/training/datasets?limit=3").json()
        second = program.get(first["next"]).json()

        names = [row["name"] for row in first["results"] + second["results"]]
        assert sorted(names) == [f"Set {number}" for number in range(5)]
        assert second["next"] is None


class TestDeleting:
    def test_it_goes_with_its_files(self, program, root, operator):
        pk = upload(program, json_lines(SFT)).json()["id"]

        assert program.delete(f"/api/training/datasets/{pk}").status_code == 204
        assert program.get(f"/api/training/datasets/{pk}").status_code == 404
        assert files_below(root) == []
        assert AuditEvent.objects.get(kind="dataset_deleted").actor == operator.pseudonym

    def test_one_that_a_run_stands_on_stays(self, program, root):
        pk = upload(program, json_lines(SFT)).json()["id"]
        make_run(version=DatasetVersion.objects.get())
        answer = program.delete(f"/api/training/datasets/{pk}")

        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "dataset_in_use")
        assert program.get(f"/api/training/datasets/{pk}").status_code == 200
        assert len(files_below(root)) == 1
        assert not AuditEvent.objects.filter(kind="dataset_deleted").exists()


def test_what_a_fall_has_left_is_swept(program, root):
    upload(program, json_lines(SFT))
    lost = root / "0198c6c0-0000-7000-8000-000000000000"
    lost.mkdir()
    (lost / "x.jsonl").write_text("{}")
    (root / ".draft-x").write_text("{}")
    (root / "somebody's folder").mkdir()
    kept = files_below(root)

    assert storage.sweep() == 0
    assert files_below(root) == kept
    assert storage.sweep(older_than=-1) == 2
    assert len(files_below(root)) == 1
    assert (root / "somebody's folder").is_dir()
