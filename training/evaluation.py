"""How good a run's model is, beside the one it comes from: asked for by staff, made by the trainer's process.

Rows that were held out from the training show what the model has forgotten, evaluation cases what it has
learned, and a judge, where one is asked, which of the two sets of answers is better. `training.gate` decides.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from feedback.models import Example, ExampleKind
from inference.adapter_files import AdapterRefused, verify
from inference.adapters import folder_of
from inference.engine.base_model import base_model, weights_folder
from inference.engine.runner import EngineError
from inference.models import Adapter, ChatModelConfig
from inference.providers import KEYS
from llmsite.core.errors import EvaluationRefused, ModelNotFound, ProviderNotConfigured, SiteError, describe
from training import gate, judge
from training.models import Evaluation, EvaluationAnswer, RunStatus, TrainingRun
from training.process import ChildEnd, Event, remove, run_child, write_job
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
"""After so long without a beat the worker of an evaluation is taken for dead."""
BEAT_SECONDS = 5.0
MOST_TRIES = 3

ShouldStop = Callable[[], float | None]
"""As of `training.process.run_child`: None to go on, else how many seconds are left."""


# --- What staff ask for ------------------------------------------------------------------------------


def ask_for(
    run: TrainingRun, *, user: User, judge: str = "", thresholds: Mapping[str, Any] | None = None
) -> Evaluation:
    """Let a run be evaluated by the next worker that is free; `judge` is the alias of any model, or empty.

    Raises EvaluationRefused, InvalidInput (thresholds), ModelNotFound and ProviderNotConfigured (judge).
    """
    _require_adapter(run)
    if judge:
        _require_judge(judge)
    limits = gate.Thresholds.read(thresholds)
    try:
        with transaction.atomic():
            return Evaluation.objects.create(
                run=run, judge=judge, thresholds=limits.as_dict(), created_by=user
            )
    except IntegrityError as error:
        raise EvaluationRefused(reason=_("An evaluation of this run is under way already.")) from error


def cases() -> QuerySet[Example]:
    """The evaluation cases whose authors allow that models are made with them, the newest first."""
    trainable = Example.objects.trainable().filter(kind=ExampleKind.EVALUATION)
    return trainable.order_by("-created_at", "-id")


def _require_adapter(run: TrainingRun) -> None:
    adapter = adapter_of(run)
    if run.status != RunStatus.SUCCEEDED or adapter is None:
        raise EvaluationRefused(reason=_("This run has not succeeded, so there is nothing to evaluate."))
    if adapter.withdrawn_at is not None or run.version.withdrawn_at is not None:
        raise EvaluationRefused(
            reason=_("What this run has learned was withdrawn, because somebody in its data set is gone.")
        )


def _require_judge(alias: str) -> None:
    row = ChatModelConfig.objects.active().filter(alias=alias).first()
    if row is None:
        raise ModelNotFound(model=alias)
    if not row.is_available:
        raise ProviderNotConfigured(provider=row.provider, setting=KEYS[row.provider])
    if not cases().exists():
        raise EvaluationRefused(
            reason=_("A judge compares answers to accepted corrections, and there are none to be used yet.")
        )


def state_of(evaluation: Evaluation) -> str:
    """queued, running, done or failed."""
    if evaluation.ended_at is None:
        return "running" if evaluation.claim else "queued"
    return "failed" if evaluation.error_code else "done"


def failure_sentence(evaluation: Evaluation) -> str:
    """Why an evaluation could not be made, and what to do; empty where it was."""
    return failures.sentence(evaluation.error_code, evaluation.error_data) if evaluation.error_code else ""


# --- What the worker does ----------------------------------------------------------------------------


def claim_next() -> Evaluation | None:
    """The evaluation that has waited longest, claimed for this worker; also one whose worker has died."""
    silent = Q(claim=None) | Q(beat_at__lt=timezone.now() - SILENCE)
    for waiting in Evaluation.objects.filter(silent, ended_at=None).order_by("created_at"):
        mine = Evaluation.objects.filter(pk=waiting.pk, claim=waiting.claim, ended_at=None)
        if waiting.tries >= MOST_TRIES:
            mine.update(ended_at=timezone.now(), error_code="worker_died")
        elif mine.update(claim=uuid4(), beat_at=timezone.now(), tries=F("tries") + 1):
            waiting.refresh_from_db()
            return waiting
    return None


def make(evaluation: Evaluation, *, should_stop: ShouldStop = lambda: None) -> None:
    """Measure, ask the judge, decide. However it ends, the row says so; only a stop gives it back."""
    work = _Work(evaluation, should_stop)
    try:
        work.do()
    except _GivenBack:
        work.change(claim=None, tries=F("tries") - 1)
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
    """This worker is to stop."""


class _Lost(Exception):
    """Another worker has it: this one was taken for dead. Nothing may be changed any more."""


class _Work:
    """One evaluation in this worker's hands."""

    def __init__(self, evaluation: Evaluation, should_stop: ShouldStop) -> None:
        self.evaluation = evaluation
        self._should_stop = should_stop
        self._beat_at = time.monotonic()
        self._answers: dict[int, Event] = {}

    def do(self) -> None:
        examples = list(cases()[:MOST_CASES])
        with _job_folder() as folder:
            end = self._measure(folder, examples)
        if end.how == "stopped":
            raise _GivenBack
        if end.how == "failed":
            raise Failed(end.code, **end.data)
        # Those whose authors have gone meanwhile, or do not allow it any more, count no more.
        allowed = set(cases().values_list("pk", flat=True))
        answered = {number: example for number, example in enumerate(examples) if example.pk in allowed}
        results = {**end.data}
        opinions = self._judge([(example, self._answers[number]) for number, example in answered.items()])
        if opinions:
            results["judge"] = judge.summary(opinions, self.evaluation.judge)
        self._store(results, answered, opinions)

    # --- Its steps ---------------------------------------------------------------------------------

    def _measure(self, folder: Path, examples: Sequence[Example]) -> ChildEnd:
        run, adapter = self.evaluation.run, self._adapter()
        base = base_model(settings.LOCAL_MODEL_PATH, settings.MODELS_ROOT)
        weights = weights_folder(base, settings.MODELS_ROOT)
        shutil.copytree(folder_of(adapter.name), folder / "adapter")
        # The copy is looked through, because it is what is loaded.
        verify(folder / "adapter", adapter.sha256, base_sha256=base.sha256)
        settings_of_run = RunSettings.read(run.settings)
        _write(folder / "heldout.jsonl", heldout(run, settings_of_run))
        _write(folder / "cases.jsonl", (_as_row(example) for example in examples))
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

    def _judge(self, cases: list[tuple[Example, Event]]) -> list[judge.Opinion]:
        if not self.evaluation.judge or not cases:
            return []
        user = self.evaluation.created_by
        if user is None:
            raise Failed("nobody_pays")
        seen = [
            judge.Case(example.prompt[-1]["content"], example.chosen, said["before"], said["after"])
            for example, said in cases
        ]
        opinions = judge.preferences(
            seen, model=self.evaluation.judge, user=user, should_stop=lambda: self._ask() is not None
        )
        if len(opinions) < len(cases):
            raise _GivenBack
        return opinions

    def _store(
        self, results: dict[str, Any], answered: Mapping[int, Example], opinions: list[judge.Opinion]
    ) -> None:
        verdict = gate.decide(results, gate.Thresholds.read(self.evaluation.thresholds))
        with transaction.atomic():
            self.change(
                results=results,
                passed=verdict.passed,
                reasons=verdict.as_rows(),
                ended_at=timezone.now(),
            )
            rows = [self._answer(example, self._answers[number]) for number, example in answered.items()]
            for row, opinion in zip(rows, opinions, strict=False):
                row.preferred = opinion.preferred
            EvaluationAnswer.objects.bulk_create(rows)
        log.info("evaluated", run=str(self.evaluation.run_id), passed=verdict.passed)

    def _answer(self, example: Example, said: Event) -> EvaluationAnswer:
        return EvaluationAnswer(
            evaluation=self.evaluation,
            example=example,
            before=said["before"],
            after=said["after"],
            scores=said["scores"],
        )

    # --- Its row -----------------------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Change the row, as long as it is this worker's. Raises _Lost."""
        mine = Evaluation.objects.filter(pk=self.evaluation.pk, claim=self.evaluation.claim, ended_at=None)
        if not mine.update(**values):
            raise _Lost

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
    """How a failure is stored: a code of the table of errors or of `training.failures`, and its data."""
    if isinstance(error, Failed):
        return error.code, error.data
    if isinstance(error, AdapterRefused):
        return f"adapter_{error.code}", {"detail": str(error)}
    if isinstance(error, EngineError):
        return "base_model", {"detail": str(error)}
    if isinstance(error, SiteError):
        return describe(error).code, error.public_data
    return "crashed", {}


@contextmanager
def _job_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="evaluation-", dir=_jobs()))
    try:
        yield folder
    finally:
        remove(folder)


def _jobs() -> Path:
    place = Path(settings.TRAINING_ROOT)
    place.mkdir(mode=0o711, parents=True, exist_ok=True)
    return place
