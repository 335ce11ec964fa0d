"""What a trainer clears away when it starts, and what it leaves alone."""

import os

import pytest
from django.utils import timezone
from structlog.testing import capture_logs

from inference.adapters import folder_of
from training import storage
from training.leftovers import remove_leftovers
from training.models import RunStatus
from training.tests import running, tiny
from training.tests.making import make_adapter, make_run
from training.trainer import folder_of as folder_of_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _place(settings, tmp_path):
    running.furnish(settings, tmp_path)


def written(folder):
    """A folder with something in it, as old as may be."""
    folder.mkdir(parents=True)
    (folder / "file").write_text("words")
    os.utime(folder, (0, 0))
    return folder


def test_files_whose_rows_are_gone_go_and_what_runs_need_stays():
    waiting = running.start()
    needed = [storage.path_of(waiting.version), written(folder_of_run(waiting))]
    os.utime(needed[0].parent, (0, 0))
    serving, gone, withdrawn = (make_adapter(make_run(status=RunStatus.SUCCEEDED)) for _ in range(3))
    needed.append(written(folder_of(serving.name)))
    left = [written(folder_of(gone.name)), written(folder_of(withdrawn.name))]
    gone.delete()
    withdrawn.withdrawn_at = timezone.now()
    withdrawn.save()
    lost = running.store_version(tiny.rows(3), name="Another")
    left.append(storage.path_of(lost))
    os.utime(left[-1].parent, (0, 0))
    lost.delete()
    left.append(written(folder_of_run(make_run(status=RunStatus.FAILED))))

    remove_leftovers()

    assert [place.exists() for place in left] == [False] * 4
    assert [place.exists() for place in needed] == [True] * 3


def test_what_cannot_be_removed_does_not_keep_the_trainer_from_its_work(monkeypatch):
    def refuse(**_options):
        raise PermissionError("not ours")

    monkeypatch.setattr(storage, "sweep", refuse)
    left = written(folder_of_run(make_run(status=RunStatus.FAILED)))
    lost = written(folder_of("tiny-0123456789ab"))
    with capture_logs() as told:
        remove_leftovers()
    assert [entry["event"] for entry in told] == [
        "leftovers_removed",
        "leftovers_stay",
        "leftovers_removed",
    ]
    assert [left.exists(), lost.exists()] == [False, False]
