"""Rows that tests of runs, evaluations and promotions begin with, as what comes before leaves them."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from accounts.models import User
from inference.models import Adapter, AdapterLoad, ChatModelConfig, EngineProcess, LoadState
from training.gate import Thresholds
from training.models import Dataset, DatasetVersion, Evaluation, Layout, RunStatus, TrainingRun
from training.settings import RunSettings

BASE = "smollm2-135m-instruct"
BASE_SHA = "b" * 64


def make_version(name: str = "Corrections", **values: Any) -> DatasetVersion:
    dataset, _ = Dataset.objects.get_or_create(name=name)
    return DatasetVersion.objects.create(
        dataset=dataset,
        number=dataset.versions.count() + 1,
        layout=Layout.SFT,
        sha256=uuid4().hex * 2,
        row_count=12,
        **values,
    )


def make_run(
    user: User | None = None, *, status: str = RunStatus.SUCCEEDED, name: str = "First run", **values: Any
) -> TrainingRun:
    ended = status in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
    defaults = {
        "version": values.pop("version", None) or make_version(),
        "base_model": BASE,
        "base_sha256": BASE_SHA,
        "settings": RunSettings().as_dict(),
        "total_steps": 40,
        "step": 40 if status == RunStatus.SUCCEEDED else 10,
        "claim": uuid4() if status == RunStatus.RUNNING else None,
        "ended_at": timezone.now() if ended else None,
        "error_code": "out_of_memory" if status == RunStatus.FAILED else "",
        "created_by": user,
    }
    return TrainingRun.objects.create(name=name, status=status, **{**defaults, **values})


def make_adapter(run: TrainingRun, **values: Any) -> Adapter:
    digest = uuid4().hex * 2
    return Adapter.objects.create(
        **{
            "name": f"{BASE}-{digest[:12]}",
            "sha256": digest,
            "base_model": run.base_model,
            "base_sha256": run.base_sha256,
            "run": run.pk,
            **values,
        }
    )


def side(**values: Any) -> dict[str, Any]:
    return {"count": 10, "answered": 10, "loss": 2.0, "exact_match": 0.5, "rouge_l": 0.5, **values}


def make_evaluation(run: TrainingRun, *, passed: bool | None = True, **values: Any) -> Evaluation:
    results = {
        "heldout": {"before": side(), "after": side(loss=1.5)},
        "cases": {"before": side(exact_match=0.0, rouge_l=0.2), "after": side(exact_match=0.8, rouge_l=0.9)},
    }
    return Evaluation.objects.create(
        run=run,
        **{
            "results": {} if passed is None else results,
            "thresholds": Thresholds().as_dict(),
            "passed": passed,
            "ended_at": None if passed is None else timezone.now(),
            **values,
        },
    )


def make_good_run(user: User | None = None, **values: Any) -> tuple[TrainingRun, Adapter]:
    """A run that can be promoted."""
    run = make_run(user, **values)
    adapter = make_adapter(run)
    make_evaluation(run)
    return run, adapter


def make_local_model(alias: str = BASE, **values: Any) -> ChatModelConfig:
    return ChatModelConfig.objects.create(
        **{"alias": alias, "provider": "local", "provider_model": BASE, "is_default": False, **values}
    )


class Engine:
    """What one engine process says."""

    def __init__(self) -> None:
        self.process = EngineProcess.objects.create(base_model=BASE)

    def says(self, adapter: Adapter, state: str = LoadState.READY, error: str = "") -> None:
        AdapterLoad.objects.update_or_create(
            process=self.process, adapter=adapter, defaults={"state": state, "error": error}
        )

    def dies(self) -> None:
        EngineProcess.objects.filter(pk=self.process.pk).update(seen_at=timezone.now() - timedelta(minutes=5))
