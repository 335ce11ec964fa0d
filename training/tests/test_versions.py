"""Versions that are made at the same moment."""

import threading

import pytest
from django.db import connections
from django.utils import timezone

from accounts.erasure import erase
from accounts.models import User
from training import versions
from training.importing import from_feedback, import_file
from training.models import Dataset, DatasetRow, DatasetVersion
from training.tests.files import SFT, json_lines
from training.tests.test_lineage import teach

pytestmark = pytest.mark.django_db(transaction=True)

A_WHILE = 1.0
"""Seconds in which somebody else would have been faster."""


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.DATASETS_ROOT = tmp_path / "datasets"


class Side(threading.Thread):
    """Something that is done beside the test, with a connection of its own."""

    def __init__(self, work):
        super().__init__()
        self._work, self.error = work, None

    def run(self):
        try:
            self._work()
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()


@pytest.fixture
def held_up(monkeypatch):
    """Who stores a version first waits in the middle of it, for a while; this is set when they are there."""
    insert, is_there, may_go = versions.insert, threading.Event(), threading.Event()

    def insert_and_wait(*args, **values):
        insert(*args, **values)
        if not is_there.is_set():
            is_there.set()
            may_go.wait(A_WHILE)

    monkeypatch.setattr(versions, "insert", insert_and_wait)
    return is_there


def test_two_of_one_data_set_have_numbers_of_their_own(tmp_path, held_up):
    Dataset.objects.create(name="Animals")
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, rows in zip(paths, (SFT, SFT[:2]), strict=True):
        path.write_bytes(json_lines(rows))
    sides = [
        Side(lambda path=path: import_file(path, path.name, dataset="Animals", user=None)) for path in paths
    ]
    sides[0].start()
    held_up.wait(30)
    sides[1].start()
    for side in sides:
        side.join()

    assert [side.error for side in sides] == [None, None]
    assert sorted(DatasetVersion.objects.values_list("number", flat=True)) == [1, 2]


def test_who_is_erased_while_a_version_is_stored_is_in_none_afterwards(alice, bob, held_up):
    """The erasure waits for the version and finds it, or the version sees that an erasure has begun."""
    User.objects.update(training_consent_at=timezone.now())
    for user in User.objects.order_by("pk"):
        teach(user, f"Question of {user.username}?")
        teach(user, f"Another question of {user.username}?")
    building = Side(lambda: from_feedback("sft", dataset="Corrections", user=None))
    building.start()
    held_up.wait(30)
    erase(alice, actor=None)
    building.join()

    assert building.error is None
    newest = DatasetVersion.objects.usable().get()
    assert newest.row_count == 2
    assert set(DatasetRow.objects.filter(version=newest).values_list("user", flat=True)) == {bob.pk}
    assert DatasetRow.objects.filter(user=None).count() == 0
