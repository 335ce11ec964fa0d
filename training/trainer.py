"""Runs the trainings that are queued, one after the other, each in a child process of its own.

Whoever changes a run from QUEUED to RUNNING puts its `claim` there, and every later change names that claim,
so of two trainers only one has a run. While it runs, its trainer renews `beat_at`. A row that stands still
has lost its trainer, and is queued again; the next one goes on from the last checkpoint.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from inference.adapter_files import AdapterRefused
from inference.adapters import publish
from inference.engine.base_model import base_model, weights_folder
from inference.engine.runner import EngineError
from inference.models import Adapter
from llmsite.core.beats import Beats
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import DatasetDamaged, DiskFull
from llmsite.core.logs import request_id
from training import examination
from training.failures import sentence
from training.lineage import obstacle
from training.models import DatasetVersion, Metric, RunStatus, TrainingRun
from training.process import WORK, ChildEnd, Event, reclaim, remove, run_child, write_job
from training.promotion import withdraw
from training.storage import checked_path

log = structlog.get_logger("llmsite.trainer")

POLL_SECONDS = 1.0
BEAT_SECONDS = 1.0
SILENCE_SECONDS = 15.0
"""After so long without a beat a run's trainer is taken for dead."""
MOST_TRIES = 4
"""How often a run is begun from the same checkpoint whose trainer or whose child is killed."""
DATABASE_SECONDS = 60.0
"""How long what a child says waits for a database that is away, such as one that is started again."""
LAST_STEP_SECONDS = 20.0
"""What a child may take to end its step and to keep a checkpoint, when this trainer is to stop."""
ADAPTER = "adapter"

MEASURED = ("loss", "eval_loss", "learning_rate", "gradient_norm", "tokens_per_second")


class RunLost(Exception):
    """Another trainer has the run: this one was taken for dead. Nothing may be changed any more."""


class RunFailed(Exception):
    """The run ends here. `code` is a word of `training.failures`, `data` fills its sentence."""

    def __init__(self, code: str, **data: Any) -> None:
        super().__init__(code, data)
        self.code = code
        self.data = data


class Trainer:
    """The process `trainer` at its work. `only` limits it to one run."""

    def __init__(self, *, only: UUID | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._only = only
        self._clock = clock
        self._seen: dict[UUID, tuple[datetime | None, float]] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """No new run; the one under way keeps a checkpoint and is given back."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop` is called. An absent database is waited for."""
        while not self._stopping.is_set():
            try:
                close_old_connections()
                self.reap()
                worked = self.run_next() or (self._only is None and self.evaluate_next())
                if not worked:
                    sweep()  # Who calls a run off that waits may be on another machine.
            except Exception as error:
                log.warning("trainer_round_failed", error=type(error).__name__, exc_info=True)
                close_old_connections()
                worked = False
            if not worked:
                self._stopping.wait(POLL_SECONDS)

    def run_next(self) -> bool:
        """Take the run that has waited longest to its end; False where none waits."""
        waiting = TrainingRun.objects.filter(status=RunStatus.QUEUED)
        if self._only is not None:
            waiting = waiting.filter(pk=self._only)
        for run in waiting.order_by("created_at")[:10]:
            if claim(run):
                _Work(run, self._stopping, meanwhile=self.reap).do()
                return True
        return False

    def evaluate_next(self) -> bool:
        """Make the evaluation that has waited longest; False where none waits."""
        waiting = examination.claim_next()
        if waiting is None:
            return False
        examination.make(waiting, should_stop=lambda: 0.0 if self._stopping.is_set() else None)
        return True

    def reap(self) -> int:
        """Take the runs of dead trainers from them; returns how many.

        Only beats that it saw itself count, by its own clock: clocks of machines differ.
        """
        rows = list(TrainingRun.objects.filter(status=RunStatus.RUNNING))
        now, before = self._clock(), self._seen
        self._seen = {}
        for run in rows:
            known = before.get(run.pk)
            self._seen[run.pk] = known if known and known[0] == run.beat_at else (run.beat_at, now)
        silent = [run for run in rows if now - self._seen[run.pk][1] >= SILENCE_SECONDS]
        return sum(_take_from_the_dead(run) for run in silent)


def claim(run: TrainingRun) -> bool:
    """Whether the run is this trainer's from here on."""
    now = timezone.now()
    waiting = TrainingRun.objects.filter(pk=run.pk, status=RunStatus.QUEUED)
    mine = waiting.update(
        status=RunStatus.RUNNING,
        claim=uuid4(),
        beat_at=now,
        tries=F("tries") + 1,
        started_at=run.started_at or now,
    )
    run.refresh_from_db()
    return bool(mine)


def folder_of(run: TrainingRun) -> Path:
    """Where a run keeps what it goes on from; it is gone when the run has ended."""
    return Path(settings.TRAINING_ROOT) / f"run-{run.pk}"


def sweep() -> int:
    """Remove the folders of runs that have ended, or are gone; returns how many."""
    root = Path(settings.TRAINING_ROOT)
    folders = {path.name: path for path in root.glob("run-*")} if root.is_dir() else {}
    if not folders:
        return 0
    open_runs = TrainingRun.objects.filter(status__in=(RunStatus.QUEUED, RunStatus.RUNNING))
    for pk in open_runs.values_list("pk", flat=True):
        folders.pop(f"run-{pk}", None)
    for path in folders.values():
        remove(path)
    return len(folders)


def _take_from_the_dead(run: TrainingRun) -> bool:
    same = TrainingRun.objects.filter(
        pk=run.pk, status=RunStatus.RUNNING, claim=run.claim, beat_at=run.beat_at
    )
    log.warning("trainer_died", run=str(run.pk), tries=run.tries)
    if run.cancel_requested_at is not None:
        return _end(same, run, RunStatus.CANCELLED)
    if run.tries >= MOST_TRIES:
        return _end(same, run, RunStatus.FAILED, error_code="worker_died")
    return bool(same.update(status=RunStatus.QUEUED, claim=None))


def _end(rows: QuerySet[TrainingRun], run: TrainingRun, status: RunStatus, **values: Any) -> bool:
    """Whether the run has ended without success; what it kept to go on from is removed then."""
    with transaction.atomic():
        ended = bool(rows.update(status=status, ended_at=timezone.now(), **values))
        if ended:
            # A trainer that died just before its run's end has published one.
            withdraw(Adapter.objects.filter(run=run.pk), because=_why(values))
    if ended:
        _tidy_up(run, status, values.get("error_code", ""))
    return ended


def _tidy_up(run: TrainingRun, status: RunStatus, code: str = "") -> None:
    remove(folder_of(run))
    log.info("run_ended", run=str(run.pk), status=status.value, code=code)


def _why(values: Mapping[str, Any]) -> str:
    code = values.get("error_code")
    return sentence(code, values.get("error_data")) if code else "Its run was called off."


# --- One run -----------------------------------------------------------------------------------------


class _Work:
    """A run in this trainer's hands, from its claim to its end."""

    def __init__(
        self, run: TrainingRun, stopping: threading.Event, *, meanwhile: Callable[[], object]
    ) -> None:
        self.run = run
        self._meanwhile = meanwhile
        self.is_cancelled = False
        self.is_lost = False
        self._stopping = stopping
        self._folder = folder_of(run)

    def do(self) -> None:
        """In the name of the request that started the run."""
        token = request_id.set(self.run.request_id or None)
        try:
            self._do()
        finally:
            request_id.reset(token)

    def _do(self) -> None:
        try:
            with Beats(self.beat, seconds=BEAT_SECONDS):
                end = self._train()
                self._close(end)
        except RunLost:
            log.warning("run_lost", run=str(self.run.pk))
        except RunFailed as failure:
            self._fail(failure.code, failure.data)
        except Exception as error:
            # Of the site or the database, not of the run, which is tried again as after a fall.
            log.warning("run_interrupted", run=str(self.run.pk), error=type(error).__name__, exc_info=True)
            self._give_back(counts=True)

    def own(self) -> QuerySet[TrainingRun]:
        """The row, as long as it is ours."""
        return TrainingRun.objects.filter(pk=self.run.pk, status=RunStatus.RUNNING, claim=self.run.claim)

    def beat(self) -> None:
        """Show that this trainer lives, and hear what was asked of it meanwhile."""
        self.is_lost = not self.own().update(beat_at=timezone.now())
        self.is_cancelled = self.own().filter(cancel_requested_at__isnull=False).exists()
        self._meanwhile()

    # --- The child ---------------------------------------------------------------------------------

    def _train(self) -> ChildEnd:
        version = DatasetVersion.objects.get(pk=self.run.version_id)
        if why := obstacle(version):
            raise RunFailed(why)
        weights = self._weights()
        try:
            rows = checked_path(version)
            self._write_job(weights)
        except DatasetDamaged as error:
            raise RunFailed("dataset_damaged") from error
        except DiskFull as error:
            raise RunFailed("disk_full") from error
        log.info("run_begins", run=str(self.run.pk), tries=self.run.tries)
        return run_child(
            "train",
            self._folder,
            on_event=self._hear,
            should_stop=self._should_stop,
            files={"rows": rows},
            reads=[weights],
        )

    def _weights(self) -> Path:
        """The very weights that the run was started for."""
        try:
            base = base_model(settings.LOCAL_MODEL_PATH, settings.MODELS_ROOT)
            if base.sha256 != self.run.base_sha256:
                raise RunFailed("base_changed")
            return weights_folder(base, settings.MODELS_ROOT)
        except EngineError as error:
            raise RunFailed("base_model", detail=str(error)) from error

    def _write_job(self, weights: Path) -> None:
        job = {
            "model": str(weights),
            "base_name": self.run.base_model,
            "device": settings.DEVICE,
            "settings": self.run.settings,
            "memory_bytes": self.run.estimate.get("memory_bytes", 0),
        }
        with telling_when_full():
            write_job(self._folder, job)

    def _should_stop(self) -> float | None:
        if self.is_lost or self.is_cancelled:
            return 0.0
        return LAST_STEP_SECONDS if self._stopping.is_set() else None

    def _hear(self, event: Event) -> None:
        deadline = time.monotonic() + DATABASE_SECONDS
        while True:
            try:
                self._note(event)
                return
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() >= deadline or self._stopping.wait(POLL_SECONDS):
                    raise
                log.warning("database_away", run=str(self.run.pk), error=type(error).__name__)
                close_old_connections()

    def _note(self, event: Event) -> None:
        """Twice is as good as once."""
        if event["event"] == "left_out":
            self._change(estimate={**self.run.estimate, "left_out": int(event["rows"])})
        step = event.get("step")
        if not isinstance(step, int):
            return
        if event["event"] == "started":
            self._change(step=step, total_steps=int(event["total_steps"]))
        elif event["event"] == "step":
            self._change(step=step)
        elif event["event"] == "checkpoint":
            # It has come further, so the falls until here do not count any more.
            self._change(step=step, tries=0)
            self.run.tries = 0
        elif event["event"] == "metric":
            self._keep(step, {name: _number(event[name]) for name in MEASURED if name in event})

    def _keep(self, step: int, measured: dict[str, float | None]) -> None:
        """One row for each step: a run that goes on from before measures some of them again."""
        self._change(step=step)
        Metric.objects.update_or_create(
            run=self.run, step=step, defaults={**measured, "logged_at": timezone.now()}
        )

    # --- The end -----------------------------------------------------------------------------------

    def _close(self, end: ChildEnd) -> None:
        if self.is_lost:
            raise RunLost
        if end.how == "finished":
            self._succeed(end.data)
        elif end.how == "stopped" and self.is_cancelled:
            _end(self.own(), self.run, RunStatus.CANCELLED)
        elif end.how == "stopped":
            self._give_back(counts=False)
        elif end.code == "killed" and self.run.tries < MOST_TRIES:
            self._give_back(counts=True)
        else:
            raise RunFailed(end.code, **end.data)

    def _succeed(self, data: Event) -> None:
        adapter_folder = self._folder / WORK / ADAPTER
        reclaim(adapter_folder)
        self._change(step=int(data["steps"]))
        try:
            publish(
                adapter_folder,
                base_model=self.run.base_model,
                base_sha256=self.run.base_sha256,
                run=self.run.pk,
            )
        except AdapterRefused as error:
            raise RunFailed("adapter_refused", detail=str(error)) from error
        except DiskFull as error:
            raise RunFailed("disk_full") from error
        if not self._end_well():
            # Somebody in the data was erased while it was trained on.
            raise RunFailed("withdrawn")

    def _end_well(self) -> bool:
        """False where its data was withdrawn.

        The version is locked: an erasure comes before this, or it finds the adapter and withdraws it.
        """
        with transaction.atomic():
            version = DatasetVersion.objects.select_for_update().get(pk=self.run.version_id)
            if version.withdrawn_at is not None:
                return False
            ended = self.own().update(status=RunStatus.SUCCEEDED, ended_at=timezone.now())
        if ended:
            _tidy_up(self.run, RunStatus.SUCCEEDED)
        return True

    def _fail(self, code: str, data: dict[str, Any]) -> None:
        _end(self.own(), self.run, RunStatus.FAILED, error_code=code, error_data=data)

    def _give_back(self, *, counts: bool) -> None:
        """Queue it again; it goes on from its last checkpoint. What this trainer chose to end is no try."""
        if counts and self.run.tries >= MOST_TRIES:
            self._fail("worker_died", {})
            return
        with suppress(Exception):
            self.own().update(
                status=RunStatus.QUEUED,
                claim=None,
                tries=self.run.tries if counts else max(self.run.tries - 1, 0),
            )

    def _change(self, **values: Any) -> None:
        """Raises RunLost."""
        if not self.own().update(**values):
            raise RunLost


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
