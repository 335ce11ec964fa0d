"""The worker: each task is run, by one worker at a time, and again where its worker died."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django_tasks.signals import task_finished
from django_tasks_db.models import DBTaskResult

from llmsite.core import worker as module
from llmsite.core.worker import (
    MOST_TRIES,
    SILENCE_SECONDS,
    TryLater,
    TurnOver,
    Worker,
    call_off,
    forget_ended_tasks,
    is_last_try,
    standstill,
)
from llmsite.tests import tasks

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_done():
    tasks.calls.clear()
    tasks.does.clear()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def worker(clock):
    return Worker(beats=False, clock=clock)


def row_of(result):
    return DBTaskResult.objects.get(pk=result.id)


def make_due(result):
    DBTaskResult.objects.filter(pk=result.id).update(run_after=timezone.now())


def claimed_by_another(result):
    """As a worker leaves it that is killed in the middle."""
    assert Worker(beats=False)._claim(row_of(result))
    return row_of(result)


def fail():
    raise ValueError(" ".join(["secret", "words"]))


def test_tasks_are_run_in_their_order_and_urgent_ones_first(worker):
    tasks.plain.enqueue("first")
    tasks.plain.enqueue("second")
    tasks.urgent.enqueue("urgent")

    assert [ended.how for ended in worker.run_ready()] == ["done"] * 3
    assert tasks.calls == ["urgent", "first", "second"]
    assert worker.run_next() is None


def test_of_two_workers_one_has_a_task(worker):
    result = tasks.plain.enqueue("one")
    row = row_of(result)

    assert worker._claim(row)
    assert not Worker(beats=False)._claim(row_of(result))
    assert not Worker(beats=False)._claim(row)


def test_a_worker_that_looks_for_some_tasks_leaves_the_others(worker):
    mine, _others = tasks.plain.enqueue("mine"), tasks.plain.enqueue("others")

    Worker(only=[mine.id], beats=False).run_ready()

    assert tasks.calls == ["mine"]


class TestAFailingTask:
    def test_is_tried_three_times_with_pauses(self, worker):
        tasks.does["bad"] = fail
        result, other = tasks.plain.enqueue("bad"), tasks.plain.enqueue("good")
        pauses = []
        for _ in range(MOST_TRIES):
            [ended] = [one for one in worker.run_ready() if str(one.task) == result.id]
            pauses.append((row_of(result).run_after - timezone.now()).total_seconds())
            make_due(result)

        assert ended.how == "failed"
        assert tasks.calls.count("bad") == MOST_TRIES
        assert worker.run_ready() == []
        assert pauses[0] < pauses[1]
        assert row_of(other).status == "SUCCESSFUL"

    def test_leaves_no_word_of_what_it_worked_on(self, worker, caplog):
        tasks.does["bad"] = fail
        result = tasks.plain.enqueue("bad")
        for _ in range(MOST_TRIES):
            make_due(result)
            worker.run_ready()

        row = row_of(result)
        assert row.exception_class_path == "builtins.ValueError"
        assert "in fail" in row.traceback
        assert "secret words" not in row.traceback + caplog.text

    def test_knows_its_last_try(self, worker):
        known = []

        def look():
            known.append(is_last_try())
            fail()

        tasks.does["bad"] = look
        result = tasks.plain.enqueue("bad")
        for _ in range(MOST_TRIES):
            make_due(result)
            worker.run_ready()

        assert known == [False, False, True]
        assert not is_last_try()


def test_waiting_for_what_is_away_is_no_try(worker):
    def wait():
        raise TryLater(30, "model")

    tasks.does["one"] = wait
    result = tasks.plain.enqueue("one")
    for _ in range(MOST_TRIES + 1):
        make_due(result)
        [ended] = worker.run_ready()
        assert (ended.how, ended.reason) == ("waits", "model")

    row = row_of(result)
    assert row.worker_ids == []
    assert row.run_after > timezone.now() + timedelta(seconds=20)
    tasks.does.clear()
    make_due(result)
    assert worker.run_next().how == "done"


class TestBeingStopped:
    def test_a_running_task_is_given_back_uncounted(self, worker):
        tasks.does["one"] = worker.stop
        result = tasks.plain.enqueue("one")

        assert worker.run_next().how == "given back"
        assert row_of(result).worker_ids == []
        assert Worker(beats=False).run_next().how == "done"

    def test_nothing_new_is_begun(self, worker):
        result = tasks.plain.enqueue("one")
        worker.stop()
        worker.run()

        assert row_of(result).status == "READY"


def test_a_task_makes_way_for_an_urgent_one(worker, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0)
    tasks.plain.enqueue("long")
    tasks.does["long"] = lambda: tasks.does.clear() or tasks.urgent.enqueue("urgent")

    hows = [ended.how for ended in worker.run_ready()]

    assert tasks.calls == ["long", "urgent", "long"]
    assert hows == ["given back", "done", "done"]


def be_fair():
    tasks.does.clear()
    raise TurnOver


def test_a_task_that_has_had_its_turn_goes_on_behind_those_that_wait(worker):
    result = tasks.plain.enqueue("long")
    tasks.plain.enqueue("second")
    tasks.plain.enqueue("third")
    tasks.does["long"] = be_fair

    assert [ended.how for ended in worker.run_ready()] == ["given back", "done", "done", "done"]
    assert tasks.calls == ["long", "second", "third", "long"]
    assert len(row_of(result).worker_ids) == 1, "a turn is no try"


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, GeneratorExit])
def test_what_ends_a_loop_or_a_thread_within_a_task_does_not_end_the_worker(worker, kind):
    def leave():
        raise kind

    result = tasks.plain.enqueue("one")
    tasks.does["one"] = leave

    assert worker.run_next().how == "again"
    assert row_of(result).status == "READY"


@pytest.mark.django_db(transaction=True)
def test_a_round_that_fails_is_followed_by_another(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    tasks.plain.enqueue("one")
    worker = Worker(beats=False)
    tasks.does["one"] = worker.stop

    def fail_once():
        monkeypatch.undo()
        raise OperationalError

    monkeypatch.setattr(worker, "reap", fail_once)
    worker.run()

    assert tasks.calls == ["one"]


def test_a_task_that_has_ended_is_not_called_off(worker):
    result = tasks.plain.enqueue("one")
    row = row_of(result)
    worker.run_next()

    assert not call_off(row)
    assert row_of(result).status == "SUCCESSFUL"


class TestADeadWorker:
    def test_its_task_is_run_again_when_it_was_silent_long_enough(self, worker, clock):
        result = tasks.plain.enqueue("one")
        claimed_by_another(result)

        assert worker.reap() == 0
        clock.now += SILENCE_SECONDS - 1
        assert worker.reap() == 0
        assert worker.run_next() is None
        clock.now += 1
        assert worker.reap() == 1
        assert worker.run_next().how == "done"
        assert len(row_of(result).worker_ids) == 2

    def test_one_that_beats_keeps_its_task(self, worker, clock):
        row = claimed_by_another(tasks.plain.enqueue("one"))
        run = module._Run(row, is_stopping=lambda: False)
        for _ in range(4):
            assert worker.reap() == 0
            clock.now += SILENCE_SECONDS - 1
            run.beat()

        assert not run.is_lost
        assert worker.reap() == 0

    def test_one_that_beats_at_the_last_moment_keeps_it_too(self, worker):
        silent = claimed_by_another(tasks.plain.enqueue("one"))
        module._Run(silent, is_stopping=lambda: False).beat()

        assert not worker._take(silent)
        assert DBTaskResult.objects.get().status == "RUNNING"

    def test_it_ends_nothing_when_it_comes_back(self, worker, clock):
        result = tasks.plain.enqueue("one")
        tasks.does["one"] = lambda: DBTaskResult.objects.filter(pk=result.id).update(status="READY")

        assert worker.run_next().how == "lost"
        assert row_of(result).status == "READY"

    def test_it_learns_at_its_next_checkpoint_that_it_has_lost_the_task(self, worker):
        row = claimed_by_another(tasks.plain.enqueue("one"))
        run = module._Run(row, is_stopping=lambda: False)
        DBTaskResult.objects.update(started_at=timezone.now())
        run.beat()

        with pytest.raises(module.TaskLost):
            run.check()

    def test_a_task_that_kills_each_worker_fails(self, worker, clock):
        told = []

        def note(task_result, **signal):
            told.append(task_result.errors[0].exception_class_path)

        result = tasks.plain.enqueue("one")
        task_finished.connect(note)
        try:
            for _ in range(MOST_TRIES):
                claimed_by_another(result)
                worker.reap()
                clock.now += SILENCE_SECONDS
                assert worker.reap() == 1
        finally:
            task_finished.disconnect(note)

        assert row_of(result).status == "FAILED"
        assert told == ["llmsite.core.worker.WorkerDied"]


class TestStandstill:
    def test_it_is_none_without_tasks_and_while_they_are_young(self):
        assert standstill() is None
        tasks.plain.enqueue("one")
        assert standstill() is None

    def test_tasks_that_nobody_takes_are_one(self):
        tasks.plain.enqueue("one")
        DBTaskResult.objects.update(enqueued_at=timezone.now() - timedelta(hours=1))
        assert "no worker" in standstill()

        claimed_by_another(tasks.plain.enqueue("busy"))
        assert standstill() is None


def test_rows_of_ended_tasks_are_forgotten_after_a_day(worker):
    old, new = tasks.plain.enqueue("old"), tasks.plain.enqueue("new")
    worker.run_ready()
    waits = tasks.plain.enqueue("waits")
    DBTaskResult.objects.filter(pk=old.id).update(finished_at=timezone.now() - timedelta(days=2))

    assert forget_ended_tasks() == 1
    assert {str(pk) for pk in DBTaskResult.objects.values_list("pk", flat=True)} == {new.id, waits.id}


@pytest.mark.django_db(transaction=True)
def test_chores_are_done_while_a_task_runs_and_in_no_transaction_of_it(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    done, is_done = [], threading.Event()

    def chore():
        done.append((connection.in_atomic_block, threading.current_thread()))
        if len(done) == 3:
            is_done.set()
        return 1 / (len(done) - 2)  # One that fails is done again.

    def task():
        done.clear()
        with transaction.atomic():
            is_done.wait(10)
        worker.stop()

    tasks.does["long"] = task
    tasks.plain.enqueue("long")
    worker = Worker(beats=False, chores=[(0.0, chore)])
    worker.run()

    assert is_done.is_set()
    assert not any(in_transaction for in_transaction, _ in done)
    assert threading.current_thread() not in {thread for _, thread in done}


def test_a_chore_that_has_more_to_do_is_done_in_the_next_round(clock):
    turns, done = [True, True, False], []

    def chore():
        done.append(clock.now)
        return turns.pop(0)

    worker = Worker(beats=False, clock=clock, chores=[(100.0, chore)])
    for clock.now in (0.0, 1.0, 2.0, 3.0):
        worker._do_chores()

    assert done == [0.0, 1.0, 2.0]


def test_a_chore_that_fails_keeps_no_other_from_its_turn(clock):
    done = []

    def fail():
        raise OperationalError

    Worker(beats=False, clock=clock, chores=[(1.0, fail), (1.0, lambda: done.append("other"))])._do_chores()

    assert done == ["other"]


def test_chores_are_done_every_so_often(clock):
    done = []
    worker = Worker(beats=False, clock=clock, chores=[(100.0, lambda: done.append(clock.now))])
    for clock.now in (0.0, 50.0, 100.0, 150.0):
        worker._do_chores()

    assert done == [0.0, 100.0]
