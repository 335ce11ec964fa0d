"""Runs the tasks that wait in the database (django-tasks), and those that a dead worker has left.

Whoever changes a task's row from READY to RUNNING has it, from `started_at` on; every later change names that
moment, so of two workers only one has a task. While it runs, its worker renews `run_after` every few seconds.
A row that stands still for longer has lost its worker, and is made READY again.

A task runs more than once where its worker dies, so it has to be one that goes on where it was. It calls
`checkpoint` between its pieces, and may raise `TryLater` where something it needs is away, or `TurnOver`.
"""

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.db.models import Q, QuerySet
from django.db.models.signals import pre_save
from django.utils import timezone
from django_tasks import TaskResultStatus
from django_tasks.signals import task_finished
from django_tasks_db.models import DBTaskResult, get_date_max

from llmsite.core.beats import Beats
from llmsite.core.logs import request_id
from llmsite.core.metrics import JOB_SECONDS

log = structlog.get_logger("llmsite.worker")

POLL_SECONDS = 0.5
BEAT_SECONDS = 3.0
SILENCE_SECONDS = 12.0
"""After so long without a beat a task's worker is taken for dead."""
MOST_TRIES = 3
BACK_OFF_SECONDS = (5.0, 30.0)
"""How long a task that failed waits before its second and its third try."""
STANDSTILL = timedelta(seconds=60)
_LOOK_SECONDS = 2.0
REQUEST_ID = "request_id"
"""Stands in a task's row beside its arguments: the id of the request that enqueued it."""


class TryLater(Exception):
    """Raised by a task: something it needs is away. Waiting is no try."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class TurnOver(Exception):
    """Raised by a task: it has had its turn, and goes on when those that wait have had theirs. No try either.

    What it has done has to be kept, so that it comes further with each turn.
    """


class _GivenBack(Exception):
    """The worker stops, or something more urgent waits."""


class TaskLost(Exception):
    """Another worker has the task: this one was taken for dead. Nothing may be changed any more."""


class WorkerDied(Exception):
    """What a task has failed with whose worker was killed at each try."""


class CalledOff(Exception):
    """What a task has failed with that somebody called off."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run of a task went."""

    task: UUID
    how: str
    """done, failed, again (it will be tried again), waits (for something that is away), given back, lost"""
    reason: str = ""


class _Run:
    """One run of one task."""

    def __init__(self, row: DBTaskResult, *, is_stopping: Callable[[], bool]) -> None:
        self.row = row
        self.is_lost = False
        self._is_stopping = is_stopping
        self._looked = time.monotonic()

    def own(self) -> QuerySet[DBTaskResult]:
        """The row, as long as it is ours."""
        return DBTaskResult.objects.filter(
            pk=self.row.pk, status=TaskResultStatus.RUNNING, started_at=self.row.started_at
        )

    def beat(self) -> None:
        self.is_lost = not self.own().update(run_after=timezone.now())

    def check(self) -> None:
        if self.is_lost:
            raise TaskLost
        if self._is_stopping() or self._is_outranked():
            raise _GivenBack

    def _is_outranked(self) -> bool:
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        return _ready().filter(priority__gt=self.row.priority).exists()


_current: ContextVar[_Run | None] = ContextVar("run", default=None)


def checkpoint() -> None:
    """Called by a task where it may be left and taken up again; outside of a worker it does nothing."""
    if (run := _current.get()) is not None:
        run.check()


def is_last_try() -> bool:
    """Whether a task that fails now is not tried again; false outside of a worker."""
    run = _current.get()
    return run is not None and len(run.row.worker_ids) >= MOST_TRIES


def note_requests() -> None:
    """Let every task know the request that enqueued it, which is its own in the log."""
    pre_save.connect(_note_request, sender=DBTaskResult, dispatch_uid="llmsite.worker.request")


def _note_request(instance: DBTaskResult, **_kwargs: Any) -> None:
    if instance._state.adding and (current := request_id.get()) is not None:
        instance.args_kwargs[REQUEST_ID] = current


def standstill() -> str | None:
    """Why tasks that are due are not done, in a sentence; None where they are, or where there are none."""
    since = timezone.now() - STANDSTILL
    is_due = Q(run_after=get_date_max()) | Q(run_after__lt=since)
    if not _ready().filter(is_due, enqueued_at__lt=since).exists():
        return None
    beating = DBTaskResult.objects.running().filter(run_after__gt=since)
    return None if beating.exists() else "Tasks wait, and no worker takes them; its log says why."


def forget_ended_tasks() -> int:
    """Delete the rows of tasks that ended longer than RETENTION_TASKS_DAYS ago; with 0 none. How many."""
    if not settings.RETENTION_TASKS_DAYS:
        return 0
    return ended_tasks(timezone.now() - timedelta(days=settings.RETENTION_TASKS_DAYS)).delete()[0]


def ended_tasks(before: datetime) -> QuerySet[DBTaskResult]:
    return DBTaskResult.objects.finished().filter(finished_at__lt=before)


def retry(row: DBTaskResult) -> bool:
    """Put a task that has failed back to work, as if it were new; False where it has not."""
    failed = DBTaskResult.objects.failed().filter(pk=row.pk)
    place = {"run_after": get_date_max(), "enqueued_at": timezone.now(), "started_at": None}
    forgotten: dict[str, Any] = {
        "finished_at": None,
        "exception_class_path": "",
        "traceback": "",
        "worker_ids": [],
    }
    return bool(failed.update(status=TaskResultStatus.READY, **place, **forgotten))


def call_off(row: DBTaskResult) -> bool:
    """End a task that waits or runs, which it notices at its next checkpoint; False where it has ended."""
    return _fail(DBTaskResult.objects.filter(pk=row.pk, finished_at=None), row, CalledOff()).how == "failed"


def _ready() -> QuerySet[DBTaskResult]:
    return DBTaskResult.objects.ready()


@dataclass(slots=True)
class _Chore:
    """What is done every so many seconds."""

    every: float
    work: Callable[[], object]
    due: float = 0.0

    @property
    def name(self) -> str:
        return getattr(self.work, "__name__", "")


class Worker:
    """Runs one task after the other.

    `only` limits it to some tasks. Without `beats` no thread renews the row, for tests whose rows no other
    connection sees. `chores` are called every so many seconds, in a thread of their own: a task may take
    hours, and one in its thread would be part of a transaction of it. One that returns True has more to do,
    and has its next turn after a pause that leaves the database to others.
    """

    def __init__(
        self,
        *,
        only: Sequence[UUID] | None = None,
        beats: bool = True,
        chores: Sequence[tuple[float, Callable[[], object]]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = uuid4().hex
        self._only = only
        self._beats = beats
        self._clock = clock
        self._chores = [_Chore(every, work) for every, work in chores]
        self._seen: dict[UUID, tuple[datetime, float]] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """No new task; a running one is given back at its next checkpoint."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop` is called. An absent database is waited for."""
        with Beats(self._do_chores, seconds=POLL_SECONDS):
            self._run_until_stopped()

    def _run_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                close_old_connections()
                self.reap()
                ended = self.run_next()
            except Exception as error:
                log.warning("worker_round_failed", error=type(error).__name__)
                close_old_connections()
                ended = None
            if ended is None:
                self._stopping.wait(POLL_SECONDS)

    def run_ready(self) -> list[Ended]:
        """Run whatever is due, until nothing is."""
        return list(iter(self.run_next, None))

    def run_next(self) -> Ended | None:
        """Run one task that is due; None where there is none."""
        for row in self._mine(_ready())[:10]:
            if self._claim(row):
                return self._run(row)
        return None

    def reap(self) -> int:
        """Take the tasks of dead workers from them; returns how many.

        Only beats that it saw itself count, by its own clock: clocks of machines differ.
        """
        rows = list(DBTaskResult.objects.running())
        now = self._clock()
        seen = {row.pk: self._seen.get(row.pk) for row in rows}
        self._seen = {
            row.pk: known if (known := seen[row.pk]) and known[0] == row.run_after else (row.run_after, now)
            for row in rows
        }
        silent = [row for row in rows if now - self._seen[row.pk][1] >= SILENCE_SECONDS]
        return sum(self._take(row) for row in silent)

    def _mine(self, rows: QuerySet[DBTaskResult]) -> QuerySet[DBTaskResult]:
        return rows if self._only is None else rows.filter(pk__in=self._only)

    def _claim(self, row: DBTaskResult) -> bool:
        row.status, row.started_at = TaskResultStatus.RUNNING, timezone.now()
        row.worker_ids = [*row.worker_ids, self.name]
        waiting = DBTaskResult.objects.filter(pk=row.pk, status=TaskResultStatus.READY)
        values = {"status": row.status, "started_at": row.started_at, "worker_ids": row.worker_ids}
        return bool(waiting.update(**values, run_after=row.started_at))

    def _run(self, row: DBTaskResult) -> Ended:
        """In the name of the request that asked for the task."""
        token, began = request_id.set(row.args_kwargs.get(REQUEST_ID)), time.perf_counter()
        try:
            ended = self._run_in_its_name(row)
            seconds = time.perf_counter() - began
            JOB_SECONDS.labels(row.task_path, ended.how).observe(seconds)
            log.info("task_run", task=row.task_path, outcome=ended.how, seconds=round(seconds, 3))
            return ended
        finally:
            request_id.reset(token)

    def _run_in_its_name(self, row: DBTaskResult) -> Ended:
        run = _Run(row, is_stopping=self._stopping.is_set)
        value, error = self._outcome(run)
        # What is told of the end, is told outside of the handler: a log of it would quote the error's words.
        if error is None:
            return _succeed(run, value)
        if isinstance(error, (_GivenBack, TryLater, TurnOver)):
            return _give_back(run, error)
        if isinstance(error, TaskLost):
            return Ended(row.pk, "lost")
        log.warning("task_failed", task=row.task_path, error=type(error).__name__, trace=_frames(error))
        return _try_again(run, error) if len(row.worker_ids) < MOST_TRIES else _fail(run.own(), row, error)

    def _outcome(self, run: _Run) -> tuple[Any, BaseException | None]:
        """What the task returned, or what it raised, be it the end of a loop or a thread of its own."""
        token = _current.set(run)
        try:
            with Beats(run.beat, seconds=BEAT_SECONDS) if self._beats else nullcontext():
                return _call(run.row), None
        except (Exception, asyncio.CancelledError, SystemExit, GeneratorExit) as error:
            return None, error
        finally:
            _current.reset(token)

    def _take(self, row: DBTaskResult) -> bool:
        same = DBTaskResult.objects.filter(
            pk=row.pk, status=TaskResultStatus.RUNNING, started_at=row.started_at, run_after=row.run_after
        )
        log.warning("worker_died", task=row.task_path, tries=len(row.worker_ids))
        if len(row.worker_ids) >= MOST_TRIES:
            return _fail(same, row, WorkerDied()).how == "failed"
        return bool(same.update(status=TaskResultStatus.READY, run_after=timezone.now()))

    def _do_chores(self) -> None:
        for chore in self._chores:
            if self._clock() >= chore.due and not self._stopping.is_set():
                chore.due = self._clock() + chore.every
                self._do_chore(chore)

    def _do_chore(self, chore: _Chore) -> None:
        try:
            if chore.work() is True:
                chore.due = self._clock()
        except Exception as error:
            log.warning("chore_failed", chore=chore.name, error=type(error).__name__)
            close_old_connections()


def _call(row: DBTaskResult) -> Any:
    return row.task.call(*row.args_kwargs["args"], **row.args_kwargs["kwargs"])


def _succeed(run: _Run, value: Any) -> Ended:
    values = {"status": TaskResultStatus.SUCCESSFUL, "return_value": value, "finished_at": timezone.now()}
    return _end(run.own(), run.row, values, Ended(run.row.pk, "done"))


def _give_back(run: _Run, error: _GivenBack | TryLater | TurnOver) -> Ended:
    """Make it READY again as if it had not been begun."""
    now = timezone.now()
    waits = error.seconds if isinstance(error, TryLater) else 0.0
    place: dict[str, datetime] = {"run_after": now + timedelta(seconds=waits)}
    if isinstance(error, TurnOver):
        # As if it were new: tasks that have a time go before those that have none.
        place = {"run_after": get_date_max(), "enqueued_at": now}
    run.own().update(
        status=TaskResultStatus.READY, worker_ids=run.row.worker_ids[:-1], started_at=None, **place
    )
    if isinstance(error, TryLater):
        return Ended(run.row.pk, "waits", error.reason)
    return Ended(run.row.pk, "given back")


def _try_again(run: _Run, error: BaseException) -> Ended:
    due = timezone.now() + timedelta(seconds=BACK_OFF_SECONDS[len(run.row.worker_ids) - 1])
    run.own().update(status=TaskResultStatus.READY, run_after=due)
    return Ended(run.row.pk, "again", type(error).__name__)


def _fail(rows: QuerySet[DBTaskResult], row: DBTaskResult, error: BaseException) -> Ended:
    # No message: it may quote what the task was working on.
    values = {
        "status": TaskResultStatus.FAILED,
        "finished_at": timezone.now(),
        "exception_class_path": f"{type(error).__module__}.{type(error).__qualname__}",
        "traceback": _frames(error),
    }
    return _end(rows, row, values, Ended(row.pk, "failed", type(error).__name__))


def _end(rows: QuerySet[DBTaskResult], row: DBTaskResult, values: dict[str, Any], ended: Ended) -> Ended:
    if not rows.update(**values):
        return Ended(row.pk, "lost")
    row.refresh_from_db()
    task_finished.send(sender=type(row.task.get_backend()), task_result=row.task_result)
    return ended


def _frames(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__))
