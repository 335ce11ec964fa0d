"""Examines the models of runs: measured in a child process, compared by a judge, decided by the gate.

Whoever puts its `claim` on the row of an evaluation has it, and every later change names that claim. A row
whose beat stands still has lost its trainer, and is made by another one from the beginning.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from feedback.models import Example
from inference.adapter_files import AdapterRefused, verify
from inference.adapters import folder_of
from inference.engine.base_model import base_model, weights_folder
from inference.engine.runner import EngineError
from inference.models import Adapter
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import SiteError, describe
from training import gate, judge
from training.evaluation import NOBODY_PAYS, cases
from training.models import Evaluation, EvaluationAnswer, TrainingRun
from training.process import ChildEnd, Event, make_folder, remove, run_child, write_job
from training.promotion import adapter_of
from training.rows import Row, line_of, read_rows, split
from training.settings import RunSettings

log = structlog.get_logger("llmsite.evaluation")

MOST_ROWS = 200
"""Held-out rows whose loss is measured, at most."""
MOST_ANSWERED = 32
"""How many of them are answered too, which takes longer."""
MOST_CASES = 100
"""Evaluation cases, the newest."""
ANSWER_TOKENS = 128
"""How long an answer may become."""
SILENCE = timedelta(seconds=60)
"""After so long without a beat the trainer of an evaluation is taken for dead."""
BEAT_SECONDS = 5.0
MOST_TRIES = 3
FOLDER = "evaluation-"
"""How the names of the folders begin in which they are made, below TRAINING_ROOT."""

ShouldStop = Callable[[], float | None]
"""As of `training.process.run_child`: None to go on, else how many seconds are left."""


def claim_next(*, only: Evaluation | None = None) -> Evaluation | None:
    """The evaluation that has waited longest, claimed for this trainer; also one whose trainer has died."""
    sweep()
    silent = Q(claim=None) | Q(beat_at__lt=timezone.now() - SILENCE)
    waiting_ones = Evaluation.objects.filter(silent, ended_at=None)
    if only is not None:
        waiting_ones = waiting_ones.filter(pk=only.pk)
    for waiting in waiting_ones.order_by("created_at"):
        mine = Evaluation.objects.filter(pk=waiting.pk, claim=waiting.claim, ended_at=None)
        if waiting.tries >= MOST_TRIES:
            mine.update(ended_at=timezone.now(), error_code="worker_died")
        elif mine.update(claim=uuid4(), beat_at=timezone.now(), tries=F("tries") + 1):
            if waiting.claim is not None:
                judge.forget([waiting.claim])
            waiting.refresh_from_db()
            return waiting
    return None


def make(evaluation: Evaluation, *, should_stop: ShouldStop = lambda: None) -> None:
    """Measure, ask the judge, decide. However it ends, the row says so; only a stop gives it back."""
    work = _Work(evaluation, should_stop)
    try:
        work.do()
    except _GivenBack:
        work.give_back()
    except _Lost:
        log.info("evaluation_lost", evaluation=str(evaluation.pk))
    except (AdapterRefused, EngineError, Failed, SiteError) as error:
        work.fail(error)
    except Exception as error:
        log.exception("evaluation_crashed", evaluation=str(evaluation.pk))
        work.fail(error)


class Failed(Exception):
    """The child could not do it. `code` is a word of `training.failures`, `data` belongs to it."""

    def __init__(self, code: str, **data: Any) -> None:
        super().__init__(code, data)
        self.code = code
        self.data = data


class _GivenBack(Exception):
    """This trainer is to stop."""


class _Lost(Exception):
    """Another trainer has it: this one was taken for dead. Nothing may be changed any more."""


class _Work:
    """One evaluation in this trainer's hands."""

    def __init__(self, evaluation: Evaluation, should_stop: ShouldStop) -> None:
        self.evaluation = evaluation
        self._should_stop = should_stop
        self._beat_at = time.monotonic()
        self._answers: dict[int, Event] = {}

    def do(self) -> None:
        examples = list(cases()[:MOST_CASES])
        with _job_folder(self.evaluation) as folder:
            end = self._measure(folder, examples)
        if end.how == "stopped":
            raise _GivenBack
        if end.how == "failed":
            raise Failed(end.code, **end.data)
        # What is too long for the model was not answered.
        answered = {number: examples[number] for number in sorted(self._answers)}
        opinions = self._judge(answered)
        results = {**end.data}
        if opinions:
            results["judge"] = judge.summary([*opinions.values()], self.evaluation.judge)
        self._store(results, answered, opinions)

    # --- Its steps ---------------------------------------------------------------------------------

    def _measure(self, folder: Path, examples: Sequence[Example]) -> ChildEnd:
        run, adapter = self.evaluation.run, self._adapter()
        base = base_model(settings.LOCAL_MODEL_PATH, settings.MODELS_ROOT)
        if base.sha256 != adapter.base_sha256:
            raise Failed("base_changed")
        weights = weights_folder(base, settings.MODELS_ROOT)
        work = make_folder(folder)
        shutil.copytree(folder_of(adapter.name), work / "adapter")
        # The copy is looked through, because it is what is loaded.
        verify(work / "adapter", adapter.sha256, base_sha256=base.sha256)
        settings_of_run = RunSettings.read(run.settings)
        _write(work / "heldout.jsonl", heldout(run, settings_of_run))
        _write(work / "cases.jsonl", (_as_row(example) for example in examples))
        write_job(
            folder,
            {
                "model": str(weights),
                "adapter": "adapter",
                "device": settings.DEVICE,
                "max_length": settings_of_run.max_length,
                "tokens": ANSWER_TOKENS,
                "answered": MOST_ANSWERED,
            },
        )
        return run_child("evaluate", folder, on_event=self._hear, should_stop=self._ask, reads=[weights])

    def _adapter(self) -> Adapter:
        adapter = adapter_of(self.evaluation.run)
        if adapter is None or adapter.withdrawn_at is not None:
            raise Failed("withdrawn")
        return adapter

    def _judge(self, answered: Mapping[int, Example]) -> dict[int, judge.Opinion]:
        """The judge's opinion of each case; of none where no judge was asked for."""
        if not self.evaluation.judge or not answered:
            return {}
        user = self.evaluation.created_by
        if user is None:
            raise Failed(NOBODY_PAYS)
        opinions = judge.preferences(
            [self._case(number, example) for number, example in answered.items()],
            model=self.evaluation.judge,
            user=user,
            # Of this trainer alone: one that was taken for dead may wake up, and ends its own.
            conversation=self.evaluation.claim or uuid4(),
            should_stop=lambda: self._ask() is not None,
        )
        if len(opinions) < len(answered):
            raise _GivenBack
        return dict(zip(answered, opinions, strict=True))

    def _case(self, number: int, example: Example) -> judge.Case:
        said = self._answers[number]
        return judge.Case(example.prompt[-1]["content"], example.chosen, said["before"], said["after"])

    def _store(
        self, results: dict[str, Any], answered: Mapping[int, Example], opinions: Mapping[int, judge.Opinion]
    ) -> None:
        limits = gate.Thresholds.read(self.evaluation.thresholds)
        verdict = gate.decide(results, limits, is_judged=bool(self.evaluation.judge))
        with transaction.atomic():
            self.change(
                results=results, passed=verdict.passed, reasons=verdict.as_rows(), ended_at=timezone.now()
            )
            # Of those who have gone meanwhile, or do not allow it any more, nothing is kept.
            # Locked, so that none is deleted before its answer is written.
            asked = cases().filter(pk__in=[example.pk for example in answered.values()])
            allowed = set(asked.select_for_update(of=("self",)).values_list("pk", flat=True))
            EvaluationAnswer.objects.bulk_create(
                self._answer(number, example, opinions.get(number))
                for number, example in answered.items()
                if example.pk in allowed
            )
        log.info("evaluated", run=str(self.evaluation.run_id), passed=verdict.passed)

    def _answer(self, number: int, example: Example, opinion: judge.Opinion | None) -> EvaluationAnswer:
        said = self._answers[number]
        return EvaluationAnswer(
            evaluation=self.evaluation,
            example=example,
            before=said["before"],
            after=said["after"],
            scores=said["scores"],
            preferred=opinion.preferred if opinion else "",
        )

    # --- Its row -----------------------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Change the row, as long as it is this trainer's. Raises _Lost."""
        mine = Evaluation.objects.filter(pk=self.evaluation.pk, claim=self.evaluation.claim, ended_at=None)
        if not mine.update(**values):
            raise _Lost

    def give_back(self) -> None:
        """Another trainer may begin anew; being stopped was no try."""
        with suppress(_Lost):
            self.change(claim=None, tries=F("tries") - 1)

    def fail(self, error: Exception) -> None:
        code, data = _meaning(error)
        log.warning("evaluation_failed", run=str(self.evaluation.run_id), code=code, error=repr(error))
        with suppress(_Lost):
            self.change(error_code=code, error_data=data, ended_at=timezone.now())

    def _hear(self, event: Event) -> None:
        if event["event"] == "case":
            self._answers[event["number"]] = event

    def _ask(self) -> float | None:
        """As `run_child` asks, ten times a second: a good moment for a sign of life, too."""
        if time.monotonic() - self._beat_at > BEAT_SECONDS:
            self._beat_at = time.monotonic()
            self.change(beat_at=timezone.now())
        return self._should_stop()


def heldout(run: TrainingRun, settings_of_run: RunSettings) -> list[Row]:
    """The rows that `run` was not trained on, the first of them where they are many.

    Raises DatasetDamaged.
    """
    rows = list(read_rows(run.version))
    _, held = split(rows, seed=settings_of_run.seed, fraction=settings_of_run.eval_fraction)
    return [rows[number] for number in held[:MOST_ROWS]]


def _as_row(example: Example) -> Row:
    return {"messages": [*example.prompt, {"role": "assistant", "content": example.chosen}]}


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.write_bytes(b"".join(map(line_of, rows)))


def _meaning(error: Exception) -> tuple[str, dict[str, Any]]:
    """How a failure is stored: a code of `training.failures` or of the table of errors, and its data."""
    if isinstance(error, Failed):
        return error.code, error.data
    if isinstance(error, AdapterRefused):
        return "adapter_refused", {"detail": str(error)}
    if isinstance(error, EngineError):
        return "base_model", {"detail": str(error)}
    if isinstance(error, SiteError):
        return describe(error).code, error.public_data
    return "crashed", {}


# --- Its folder --------------------------------------------------------------------------------------


@contextmanager
def _job_folder(evaluation: Evaluation) -> Iterator[Path]:
    """A new folder for the child. It holds other people's words, so nothing of it stays.

    It is this claim's alone: whoever is taken for dead and wakes up again removes no folder but its own.
    """
    folder = _root() / _name(evaluation.pk, evaluation.claim)
    try:
        with telling_when_full():
            make_folder(folder)
            yield folder
    finally:
        remove(folder)


def sweep() -> int:
    """Remove the folders of evaluations that nobody makes any more, and what their judges were asked.

    Returns how many folders.
    """
    being_made = Evaluation.objects.filter(ended_at=None, beat_at__gte=timezone.now() - SILENCE)
    left = Evaluation.objects.exclude(judge="").exclude(claim=None).exclude(pk__in=being_made.values("pk"))
    judge.forget(left.values_list("claim", flat=True))
    folders = {path.name: path for path in _root().glob(f"{FOLDER}*")}
    if not folders:
        return 0
    for pk, claim in being_made.values_list("pk", "claim"):
        folders.pop(_name(pk, claim), None)
    for path in folders.values():
        remove(path)
    return len(folders)


def _name(pk: UUID, claim: UUID | None) -> str:
    return f"{FOLDER}{pk}.{claim}"


def _root() -> Path:
    return Path(settings.TRAINING_ROOT)
