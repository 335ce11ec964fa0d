"""A trainer and its runs: who has one, what comes of it, and what is left where something dies."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import InterfaceError, OperationalError, connections, transaction
from django.utils import timezone

from accounts.models import User
from feedback.tests.making import make_answer, make_feedback
from inference.adapter_files import CONFIG, WEIGHTS
from inference.models import Adapter
from llmsite.core.logs import request_id
from training import failures, lineage, storage, trainer
from training.models import DatasetRow, DatasetVersion, Metric, RunStatus, TrainingRun
from training.process import WORK, ChildEnd
from training.starting import cancel
from training.tests import running, tiny
from training.trainer import MOST_TRIES, SILENCE_SECONDS, Trainer, claim, folder_of, sweep

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _furnished(settings, tmp_path):
    running.furnish(settings, tmp_path)


@pytest.fixture
def child(monkeypatch):
    """Stands in for the child; a test says what it says and does."""

    class Child:
        def __init__(self):
            self.calls = []
            self.does = self.learns

        def __call__(self, module, folder, *, on_event, should_stop, files, reads):
            self.calls.append((module, folder, files, reads))
            return self.does(folder, on_event, should_stop)

        def learns(self, folder, on_event, should_stop):
            on_event({"event": "started", "step": 0, "total_steps": 2})
            on_event({"event": "metric", "step": 0, "eval_loss": 3.0})
            for step in (1, 2):
                on_event({"event": "metric", "step": step, "loss": 3.0 - step, "learning_rate": 0.1})
            on_event({"event": "metric", "step": 2, "eval_loss": 0.5})
            tiny.make_adapter(folder / WORK / "adapter")
            return ChildEnd("finished", data={"steps": 2})

    standing_in = Child()
    monkeypatch.setattr(trainer, "run_child", standing_in)
    return standing_in


def ends(code, **data):
    return lambda *_: ChildEnd("failed", code, data)


def again(run):
    run.refresh_from_db()
    return run


# --- What comes of a run ----------------------------------------------------------------------------------


def test_a_run_ends_with_an_adapter_and_leaves_nothing_else(child, settings):
    run = running.start()

    assert Trainer().run_next()

    assert (again(run).status, run.step, run.total_steps, run.tries) == (RunStatus.SUCCEEDED, 2, 2, 1)
    adapter = Adapter.objects.get(run=run.pk)
    assert (adapter.base_model, adapter.base_sha256) == (run.base_model, run.base_sha256)
    assert (settings.ADAPTERS_ROOT / adapter.name / "adapter_model.safetensors").exists()
    assert not list(settings.TRAINING_ROOT.iterdir())
    assert not Trainer().run_next()


def test_the_child_gets_the_rows_and_the_weights(child, settings):
    run = running.start()

    Trainer().run_next()

    [(module, folder, files, reads)] = child.calls
    assert (module, folder) == ("train", folder_of(run))
    assert files == {"rows": storage.path_of(run.version)}
    assert [str(path) for path in reads] == [settings.LOCAL_MODEL_PATH]


def test_every_logged_step_is_one_row(child):
    run = running.start()

    Trainer().run_next()

    rows = list(Metric.objects.filter(run=run).order_by("step").values_list("step", "loss", "eval_loss"))
    assert rows == [(0, None, 3.0), (1, 2.0, None), (2, 1.0, 0.5)]


def test_a_step_that_is_measured_again_is_the_same_row(child):
    run = running.start()
    Metric.objects.create(run=run, step=2, loss=9.0, eval_loss=9.0)

    Trainer().run_next()

    assert Metric.objects.get(run=run, step=2).loss == 1.0


def test_runs_wait_for_their_turn(child):
    first, second = running.start(), running.start(version=running.store_version(tiny.rows(4)))

    ours = Trainer()
    ours.run_next()

    assert again(first).status == RunStatus.SUCCEEDED
    assert again(second).status == RunStatus.QUEUED


# --- Two trainers ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_take_the_same_run():
    version = running.store_version()
    runs = [running.start(version=version) for _ in range(10)]
    ready = threading.Barrier(2)

    def take(_):
        try:
            mine = [TrainingRun.objects.get(pk=run.pk) for run in runs]
            ready.wait()
            return [run.pk for run in mine if claim(run)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as trainers:
        one, other = trainers.map(take, range(2))

    assert sorted(one + other) == sorted(run.pk for run in runs)
    assert len({again(run).claim for run in runs}) == len(runs)
    assert {run.tries for run in runs} == {1}


def test_who_was_taken_for_dead_changes_nothing_any_more(child):
    run = running.start()

    def another_one_takes_it(folder, on_event, should_stop):
        on_event({"event": "metric", "step": 1, "loss": 2.0})
        TrainingRun.objects.filter(pk=run.pk).update(status=RunStatus.QUEUED, claim=None)
        assert claim(TrainingRun.objects.get(pk=run.pk))
        on_event({"event": "metric", "step": 2, "loss": 1.0})
        raise AssertionError("it was not stopped")

    child.does = another_one_takes_it
    Trainer().run_next()

    assert (again(run).status, run.step, run.tries) == (RunStatus.RUNNING, 1, 2)
    assert Metric.objects.count() == 1


def test_nor_does_it_end_the_run_that_another_one_has(child):
    run = running.start()

    def finishes_too_late(folder, on_event, should_stop):
        TrainingRun.objects.filter(pk=run.pk).update(status=RunStatus.QUEUED, claim=None)
        claim(TrainingRun.objects.get(pk=run.pk))
        tiny.make_adapter(folder / WORK / "adapter")
        return ChildEnd("finished", data={"steps": 2})

    child.does = finishes_too_late
    Trainer().run_next()

    assert again(run).status == RunStatus.RUNNING
    assert not Adapter.objects.exists()
    assert folder_of(run).exists()


@pytest.mark.django_db(transaction=True)
def test_its_beat_tells_it_that_it_was_taken_for_dead(child, monkeypatch):
    monkeypatch.setattr(trainer, "BEAT_SECONDS", 0.01)
    run = running.start()

    def waits(folder, on_event, should_stop):
        assert should_stop() is None
        TrainingRun.objects.filter(pk=run.pk).update(status=RunStatus.QUEUED, claim=None)
        while should_stop() is None:
            pass
        return ChildEnd("stopped")

    child.does = waits
    Trainer().run_next()

    assert again(run).status == RunStatus.QUEUED


# --- What dies --------------------------------------------------------------------------------------------


@pytest.fixture
def dead():
    """A run whose trainer was killed; `reaped` is what another trainer makes of it after the silence."""
    run = running.start()
    claim(run)
    folder_of(run).mkdir(parents=True)
    now = [0.0]
    reaper = Trainer(clock=lambda: now[0])

    def reaped():
        reaper.reap()
        now[0] += SILENCE_SECONDS
        return reaper.reap()

    run.reaped = reaped
    return run


def test_the_run_of_a_dead_worker_is_queued_again(dead):
    assert dead.reaped() == 1

    assert (again(dead).status, dead.claim, dead.tries) == (RunStatus.QUEUED, None, 1)
    assert folder_of(dead).exists()


def test_one_that_beats_is_left_alone():
    run = running.start()
    claim(run)
    now = [0.0]
    reaper = Trainer(clock=lambda: now[0])
    for beat in range(5):
        TrainingRun.objects.update(beat_at=timezone.now() + timedelta(seconds=beat))
        assert reaper.reap() == 0
        now[0] += SILENCE_SECONDS

    assert again(run).status == RunStatus.RUNNING


def test_after_too_many_deaths_the_run_has_failed(dead):
    TrainingRun.objects.update(tries=MOST_TRIES)

    dead.reaped()

    assert (again(dead).status, dead.error_code) == (RunStatus.FAILED, "worker_died")
    assert "died" in failures.sentence(dead.error_code)
    assert not folder_of(dead).exists()


def test_a_run_that_was_called_off_is_not_begun_again(dead):
    cancel(dead, user=None)

    dead.reaped()

    assert again(dead).status == RunStatus.CANCELLED


def test_nobody_has_to_be_there_to_call_off_what_nobody_works_on(dead):
    TrainingRun.objects.update(beat_at=timezone.now() - timedelta(minutes=1))

    assert cancel(again(dead), user=None).status == RunStatus.CANCELLED


def test_a_killed_child_goes_on_and_after_some_times_has_failed(child):
    run = running.start()
    child.does = ends("killed")

    for tries in range(1, MOST_TRIES):
        Trainer().run_next()
        assert (again(run).status, run.tries) == (RunStatus.QUEUED, tries)
    Trainer().run_next()

    assert (again(run).status, run.error_code) == (RunStatus.FAILED, "killed")


def test_one_that_comes_further_each_time_may_fall_as_often_as_it_likes(child):
    run = running.start()

    def comes_further(folder, on_event, should_stop):
        on_event({"event": "checkpoint", "step": again(run).step + 1})
        return ChildEnd("failed", "killed")

    child.does = comes_further
    for step in range(1, 2 * MOST_TRIES):
        Trainer().run_next()
        assert (again(run).status, run.step) == (RunStatus.QUEUED, step)

    child.does = ends("killed")
    for _ in range(MOST_TRIES):
        Trainer().run_next()
    assert (again(run).status, run.error_code) == (RunStatus.FAILED, "killed")


def test_nor_is_it_a_try_where_the_worker_is_stopped_after_a_checkpoint(child):
    run, ours = running.start(), Trainer()

    def is_stopped(folder, on_event, should_stop):
        on_event({"event": "checkpoint", "step": 1})
        ours.stop()
        return ChildEnd("stopped")

    child.does = is_stopped
    ours.run_next()

    assert (again(run).status, run.tries) == (RunStatus.QUEUED, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_is_away_for_a_moment_is_no_fall(child, monkeypatch, error):
    monkeypatch.setattr(trainer, "POLL_SECONDS", 0)
    run, away = running.start(), []
    update_or_create = Metric.objects.update_or_create

    def is_away(**values):
        away.append(values["step"])
        if away.count(2) in (1, 2):
            raise error("the server closed the connection")
        return update_or_create(**values)

    monkeypatch.setattr(Metric.objects, "update_or_create", is_away)
    Trainer().run_next()

    assert (again(run).status, run.tries, len(child.calls)) == (RunStatus.SUCCEEDED, 1, 1)
    assert away == [0, 1, 2, 2, 2, 2]
    assert Metric.objects.filter(run=run).count() == 3


def test_but_it_is_not_waited_for_without_end(child, monkeypatch):
    monkeypatch.setattr(trainer, "DATABASE_SECONDS", 0)
    run, asked = running.start(), []

    def is_away(**values):
        asked.append(values)
        raise OperationalError("nobody listens")

    monkeypatch.setattr(Metric.objects, "update_or_create", is_away)
    Trainer().run_next()

    assert (again(run).status, run.tries, len(asked)) == (RunStatus.QUEUED, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_called_off_while_it_waits_leaves_no_folder(monkeypatch):
    run, ours = running.start(), Trainer()
    folder_of(run).mkdir(parents=True)
    cancel(run, user=None)

    monkeypatch.setattr(ours, "evaluate_next", ours.stop)
    ours.run()

    assert not folder_of(run).exists()


def test_folders_of_runs_that_are_gone_are_removed(settings):
    run, left = running.start(), settings.TRAINING_ROOT / "run-01900000-0000-7000-8000-000000000000"
    for folder in (folder_of(run), left):
        folder.mkdir(parents=True)

    assert sweep() == 1
    assert folder_of(run).exists()
    assert not left.exists()


# --- Stopping and calling off -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_run_is_called_off_while_it_trains(child, monkeypatch):
    monkeypatch.setattr(trainer, "BEAT_SECONDS", 0.01)
    run = running.start()

    def waits(folder, on_event, should_stop):
        cancel(TrainingRun.objects.get(pk=run.pk), user=None)
        while (seconds := should_stop()) is None:
            pass
        assert seconds == 0, "what it has is not wanted any more"
        return ChildEnd("stopped")

    child.does = waits
    Trainer().run_next()

    assert again(run).status == RunStatus.CANCELLED
    assert not folder_of(run).exists()


def test_a_worker_that_is_to_stop_gives_its_run_back(child):
    run, ours = running.start(), Trainer()

    def keeps_a_checkpoint(folder, on_event, should_stop):
        ours.stop()
        assert should_stop() == trainer.LAST_STEP_SECONDS
        (folder / WORK / "checkpoints").mkdir()
        return ChildEnd("stopped")

    child.does = keeps_a_checkpoint
    ours.run_next()

    assert (again(run).status, run.tries, run.claim) == (RunStatus.QUEUED, 0, None)
    assert (folder_of(run) / WORK / "checkpoints").exists()


# --- Refusals ---------------------------------------------------------------------------------------------


def test_what_the_child_says_is_kept_as_the_reason(child):
    run = running.start()
    child.does = ends("rows_too_long", row=3, tokens=700, limit=512, longest=900)

    Trainer().run_next()

    assert again(run).status == RunStatus.FAILED
    told = failures.sentence(run.error_code, run.error_data)
    assert told.startswith("Row 3 has 700 tokens")
    assert "a max_length of 900" in told
    assert not folder_of(run).exists()


def test_a_base_model_that_changed_since_is_refused(child, settings):
    run = running.start()
    config = f"{settings.LOCAL_MODEL_PATH}/config.json"
    with open(config, "a") as file:
        file.write("\n")

    Trainer().run_next()

    assert (again(run).status, run.error_code) == (RunStatus.FAILED, "base_changed")
    assert not child.calls


def test_a_base_model_that_is_gone_is_told(child, settings):
    run = running.start()
    shutil.rmtree(settings.LOCAL_MODEL_PATH)

    Trainer().run_next()

    assert again(run).error_code == "base_model"
    assert settings.LOCAL_MODEL_PATH in failures.sentence(run.error_code, run.error_data)


def test_a_data_set_whose_file_was_changed_is_refused(child):
    run = running.start()
    storage.path_of(run.version).write_text("{}")

    Trainer().run_next()

    assert again(run).error_code == "dataset_damaged"
    assert not child.calls


def test_a_data_set_that_was_withdrawn_is_not_trained_on(child):
    run = running.start()
    DatasetVersion.objects.update(withdrawn_at=timezone.now())

    Trainer().run_next()

    assert again(run).error_code == "withdrawn"
    assert not child.calls


def test_nor_is_one_whose_people_have_taken_back_what_they_allowed(child, alice):
    run = running.start()
    DatasetRow.objects.create(version=run.version, number=0, user=alice)

    Trainer().run_next()

    assert again(run).error_code == "unwilling"
    assert not child.calls


def test_nor_is_one_with_feedback_that_is_accepted_no_more(child, alice):
    User.objects.filter(pk=alice.pk).update(training_consent_at=timezone.now())
    run, feedback = running.start(), make_feedback(alice, make_answer(alice, "What?", "That."))
    DatasetRow.objects.create(version=run.version, number=0, user=alice, feedback=feedback)

    Trainer().run_next()

    assert again(run).error_code == "revoked"
    assert not child.calls


def test_nor_does_an_adapter_go_out_whose_data_went_meanwhile(child):
    run = running.start()

    def somebody_is_erased(folder, on_event, should_stop):
        DatasetVersion.objects.update(withdrawn_at=timezone.now())
        return child.learns(folder, on_event, should_stop)

    child.does = somebody_is_erased
    Trainer().run_next()

    assert again(run).error_code == "withdrawn"
    assert not Adapter.objects.servable().exists()


@pytest.mark.django_db(transaction=True)
def test_nor_one_that_is_published_while_they_are_erased(child, monkeypatch):
    """The erasure has looked for adapters already, and is not written down yet."""
    run = running.start()
    withdrawn, is_ending = threading.Event(), threading.Event()
    publish, tidy_up = trainer.publish, trainer._tidy_up

    def erase():
        try:
            with transaction.atomic():
                lineage._withdraw([run.version])
                withdrawn.set()
                # Nobody gets as far as to set it, because the run's end waits for this.
                is_ending.wait(1)
        finally:
            connections.close_all()

    def publish_meanwhile(*arguments, **options):
        erasure.start()
        assert withdrawn.wait(10)
        return publish(*arguments, **options)

    def tell(*arguments):
        is_ending.set()
        tidy_up(*arguments)

    erasure = threading.Thread(target=erase)
    monkeypatch.setattr(trainer, "publish", publish_meanwhile)
    monkeypatch.setattr(trainer, "_tidy_up", tell)
    Trainer().run_next()
    erasure.join()

    assert Adapter.objects.exists()
    assert not Adapter.objects.servable().exists()
    assert again(run).status != RunStatus.SUCCEEDED


@pytest.mark.parametrize("is_called_off", [True, False])
def test_what_a_worker_published_before_it_died_goes_with_its_run(child, monkeypatch, is_called_off):
    run = running.start()
    ours = Trainer(clock=iter([0, SILENCE_SECONDS]).__next__)

    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Work, "_end_well", die)
        with pytest.raises(Died):
            Trainer().run_next()
    DatasetVersion.objects.update(withdrawn_at=timezone.now())
    if is_called_off:
        TrainingRun.objects.update(cancel_requested_at=timezone.now())
    ours.reap()
    ours.reap()
    Trainer().run_next()

    assert again(run).status == (RunStatus.CANCELLED if is_called_off else RunStatus.FAILED)
    assert Adapter.objects.exists()
    assert not Adapter.objects.servable().exists()


def test_a_full_disk_is_told(child, monkeypatch):
    def is_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "write_job", is_full)
    run = running.start()

    Trainer().run_next()

    assert again(run).error_code == "disk_full"
    assert not child.calls


def test_what_the_engine_could_not_load_is_no_adapter(child):
    run = running.start()

    def leaves_a_pickle(folder, on_event, should_stop):
        tiny.make_adapter(folder / WORK / "adapter")
        (folder / WORK / "adapter" / "optimizer.pt").write_bytes(b"\x80\x04N.")
        return ChildEnd("finished", data={"steps": 2})

    child.does = leaves_a_pickle
    Trainer().run_next()

    assert again(run).error_code == "adapter_refused"
    assert not Adapter.objects.exists()


@pytest.mark.parametrize("name", ["", "README.md", "manifest.json"])
@pytest.mark.parametrize("make", [lambda path, _: os.mkfifo(path), Path.symlink_to])
def test_nor_what_leads_elsewhere(child, tmp_path, name, make):
    run = running.start()
    elsewhere = tiny.make_adapter(tmp_path / "elsewhere")

    def leads_elsewhere(folder, on_event, should_stop):
        place = folder / WORK / "adapter"
        if name:
            tiny.make_adapter(place)
        make(place / name, elsewhere / name)
        return ChildEnd("finished", data={"steps": 2})

    child.does = leads_elsewhere
    Trainer().run_next()

    assert again(run).error_code == "adapter_refused"
    assert sorted(path.name for path in elsewhere.iterdir()) == [CONFIG, WEIGHTS]
    assert not Adapter.objects.exists()


def test_what_goes_wrong_in_the_worker_itself_is_tried_again(child):
    run = running.start()

    def fails(*_):
        raise RuntimeError("nobody thought of this")

    child.does = fails
    for _ in range(MOST_TRIES):
        Trainer().run_next()

    assert (again(run).status, run.error_code) == (RunStatus.FAILED, "worker_died")


def test_erasing_somebody_calls_off_what_is_trained_on_them(child, alice):
    from training.models import DatasetRow

    run = running.start()
    DatasetRow.objects.create(version=run.version, number=0, user=alice)

    lineage.erase(alice)
    Trainer().run_next()

    assert again(run).error_code == "withdrawn"
    assert not child.calls


def test_a_run_is_worked_on_under_the_id_of_the_request_that_started_it(child):
    token = request_id.set("browser-4711")
    run = running.start()
    request_id.reset(token)
    known = []

    def note(*arguments):
        known.append(request_id.get())
        return child.learns(*arguments)

    child.does = note
    assert Trainer(only=run.pk).run_next()

    assert known == ["browser-4711"]
    assert request_id.get() is None
