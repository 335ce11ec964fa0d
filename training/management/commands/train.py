"""`manage.py train`: a training run, here and now."""

import json
import threading
import time
from argparse import ArgumentParser
from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from inference.models import Adapter
from llmsite.core.errors import SiteError, describe
from training import failures
from training.datasets import version_of
from training.models import ENDED, Dataset, RunStatus, TrainingRun
from training.progress import progress_of
from training.settings import LIMITS, RunSettings
from training.starting import cancel, start_run
from training.trainer import Trainer

LOOK_SECONDS = 0.5


class Command(BaseCommand):
    help = (
        "Train the local model on a data set, and wait for the end. A process `trainer` that runs may take "
        "it, else it is done here. Ctrl-C calls the run off."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dataset", required=True, help="its name")
        parser.add_argument("--dataset-version", type=int, help="its number; else the newest")
        parser.add_argument("--name", default="", help="of the run")
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
        for field in fields(RunSettings):
            option = f"--{field.name.replace('_', '-')}"
            if field.type is bool:
                parser.add_argument(option, action="store_true")
                continue
            least, most = LIMITS[field.name]
            parser.add_argument(
                option,
                type=int if field.type is int else float,
                default=getattr(RunSettings(), field.name),
                help=f"from {least:g} to {most:g}; %(default)s by default",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = _started(options)
        except SiteError as error:
            public = describe(error)
            field = f"{public.field}: " if public.field else ""
            raise CommandError(f"{field}{public.message}") from error
        self._tell(f"{run.name}: {run.total_steps} steps, {_duration(run.estimate['seconds'])}")
        trainer = Trainer(only=run.pk)
        thread = threading.Thread(target=_work, args=(trainer,))
        thread.start()
        try:
            self._wait(run)
        except KeyboardInterrupt:
            cancel(run, user=None)
            self._wait(run)
        finally:
            trainer.stop()
            thread.join()
        self._conclude(run, as_json=options["json"])

    def _wait(self, run: TrainingRun) -> None:
        while run.status not in ENDED:
            time.sleep(LOOK_SECONDS)
            run.refresh_from_db()
            self._progress(run)

    def _progress(self, run: TrainingRun) -> None:
        if self.stderr.isatty():
            left = progress_of(run).left
            eta = f", {_duration(left.total_seconds())} left" if left is not None else ""
            self.stderr.write(f"\r{run.status}: step {run.step} of {run.total_steps}{eta}   ", ending="")
            self.stderr.flush()

    def _conclude(self, run: TrainingRun, *, as_json: bool) -> None:
        if self.stderr.isatty():
            self.stderr.write("")
        if run.status != RunStatus.SUCCEEDED:
            reason = failures.sentence(run.error_code, run.error_data) or "It was called off."
            raise CommandError(f"The run {run.pk} has {run.status}. {reason}")
        adapter = Adapter.objects.get(run=run.pk)
        outcome = {"run": str(run.pk), "status": run.status, "steps": run.step, "adapter": adapter.name}
        self.stdout.write(json.dumps(outcome) if as_json else f"The run {run.pk} made {adapter.name}.")

    def _tell(self, line: str) -> None:
        self.stderr.write(line)


def _started(options: dict[str, Any]) -> TrainingRun:
    dataset = Dataset.objects.filter(name=options["dataset"]).first()
    if dataset is None:
        raise CommandError(
            f"There is no data set {options['dataset']}; `manage.py import_dataset` makes one."
        )
    chosen = RunSettings.read({field.name: options[field.name] for field in fields(RunSettings)})
    version = version_of(dataset, options["dataset_version"])
    return start_run(version, name=options["name"], chosen=chosen, user=None)


def _work(trainer: Trainer) -> None:
    """Take the run, and take it again where it was given back; another thread may be faster."""
    try:
        trainer.run()
    finally:
        connection.close()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "how long it takes shows when it has begun"
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} seconds"
