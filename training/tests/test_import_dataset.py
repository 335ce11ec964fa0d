"""`manage.py import_dataset`."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from training.formats.shapes import SHAPES
from training.models import Dataset, DatasetVersion
from training.pages.datasets import ROLES
from training.pages.datasets import SHAPES as SHOWN_SHAPES
from training.tests.files import SFT, json_lines

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.DATASETS_ROOT = tmp_path / "datasets"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "animals.jsonl"
    path.write_bytes(json_lines(SFT))
    return path


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("import_dataset", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_a_file_becomes_a_data_set(file):
    said = run(file, "--name", "Animals")
    version = DatasetVersion.objects.get()

    assert f"Animals is version 1, {version.sha256[:12]}." in said
    assert "3 rows (sft), recognised as completion: prompt → question, completion → answer" in said
    assert (version.created_by, version.origin["file"]) == (None, "animals.jsonl")
    assert "was there already, as version 1" in run(file, "--name", "Animals")


def test_its_outcome_as_json(file):
    told = json.loads(run(file, "--name", "Animals", "--json"))
    assert (told["version"], told["is_new"], told["rows"], told["id"]) == (
        1,
        True,
        3,
        str(DatasetVersion.objects.get().pk),
    )


def test_rows_that_are_not_right_end_it_with_a_line(file):
    file.write_bytes(json_lines([*SFT, {"prompt": "a"}]))
    with pytest.raises(CommandError, match="Line 4: “completion” is missing or empty"):
        run(file, "--name", "Animals")
    assert not Dataset.objects.exists()

    said = run(file, "--name", "Animals", "--leave-out-bad")
    assert "Not right: 1 rows\n  Line 4: “completion” is missing or empty." in said


def test_it_may_be_looked_at_alone(file):
    file.write_bytes(json_lines([{"frage": asked, "antwort": "x"} for asked in "abca"]))
    said = run(file, "--name", "Animals", "--columns", "prompt=frage,completion=antwort", "--dry-run")
    assert "4 rows (sft)" in said
    assert "Duplicates: 1 rows" in said
    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.jsonl", "there is no such file"), ("https://example.org/set.jsonl", "there is no such file")],
)
def test_what_is_no_file_is_told(tmp_path, name, said):
    with pytest.raises(CommandError, match=said):
        run(tmp_path / name if name.startswith("no") else name, "--name", "Animals")


def test_a_file_of_another_kind_is_told(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x05")
    with pytest.raises(CommandError, match="JSON, JSONL, CSV, TXT or Parquet"):
        run(path, "--name", "Animals")


def test_every_shape_has_a_name_and_every_column_a_role_that_people_read():
    assert set(SHOWN_SHAPES) == {shape.name for shape in SHAPES}
    assert {role for shape in SHAPES for role in shape.roles.values()} | {"left_out"} == set(ROLES)
