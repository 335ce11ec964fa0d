"""The process `trainer`, as the Procfile runs it, with real children, and what survives a kill -9."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings as site_settings
from django.core.management import call_command
from django.core.management.base import CommandError

from inference.adapter_files import verify
from inference.models import Adapter
from llmsite.testing.site import ROOT, database_url
from training.models import ENDED, Metric, RunStatus, TrainingRun
from training.settings import RunSettings
from training.starting import cancel
from training.tests import running, tiny
from training.trainer import folder_of

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

FOLDERS = ("TRAINING_ROOT", "DATASETS_ROOT", "ADAPTERS_ROOT", "MODELS_ROOT", "LOCAL_MODEL_PATH")
CHOSEN = RunSettings(epochs=12, save_every=5, batch_size=2, dropout=0.1, learning_rate=0.01)
STEPS = 108


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _furnished(settings, tmp_path, model):
    running.furnish(settings, tmp_path, model=model)


@pytest.fixture
def trainer():
    """Starts processes `trainer`."""
    started = []

    def start(*, program=("manage.py", "train_worker"), **environment):
        values = {name: str(getattr(site_settings, name)) for name in FOLDERS}
        values |= {"DATABASE_URL": database_url(), "REDIS_URL": site_settings.REDIS_URL, "DEVICE": "cpu"}
        values |= {"TRAINING_NICE": "0", "LOG_LEVEL": "warning", **environment}
        started.append(subprocess.Popen([sys.executable, *program], cwd=ROOT, env={**os.environ, **values}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(is_so, seconds=120):
    deadline = time.monotonic() + seconds
    while not (answer := is_so()):
        assert time.monotonic() < deadline, list(TrainingRun.objects.values("status", "step", "error_code"))
        time.sleep(0.02)
    return answer


def again(run):
    run.refresh_from_db()
    return run


def ended(run):
    until(lambda: again(run).status in ENDED)
    return run


def children(process):
    """The ids of the processes that `process` has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            _, _, rest = (place / "stat").read_text().rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) == process.pid and rest.split()[0] != "Z":
            found.append(int(place.name))
    return found


def weights_of(run):
    adapter = Adapter.objects.get(run=run.pk)
    folder = site_settings.ADAPTERS_ROOT / adapter.name
    verify(folder, adapter.sha256)
    return (folder / "adapter_model.safetensors").read_bytes()


def check(run, *, like):
    """The run has come to its end as if nothing had happened, and nothing else is left."""
    assert (run.status, run.step, run.error_code) == (RunStatus.SUCCEEDED, STEPS, "")
    steps = Metric.objects.filter(run=run, loss__isnull=False).values_list("step", flat=True)
    assert sorted(steps) == list(range(1, STEPS + 1))
    assert weights_of(run) == weights_of(like)
    until(lambda: not folder_of(run).exists())


def reach(run, step):
    until(lambda: Metric.objects.filter(run=run, step__gte=step).exists() or again(run).status in ENDED)


def test_kill_9_at_random_moments_changes_nothing(trainer):
    """The child twice, in the middle of epochs, then the whole worker; and a worker that is asked to stop."""
    version = running.store_version()
    one = trainer()
    whole = ended(running.start(version=version, chosen=CHOSEN))
    check(whole, like=whole)

    run = running.start(version=version, chosen=CHOSEN)
    for least in (7, 37):
        reach(run, random.randint(least, least + 20))
        claim = again(run).claim
        os.kill(until(lambda: children(one))[0], signal.SIGKILL)
        until(lambda claim=claim: again(run).claim not in (claim, None) and children(one))
    reach(run, random.randint(67, 75))
    [child] = children(one)
    one.kill()
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
    assert again(run).status == RunStatus.RUNNING, "nobody knows yet"

    two = trainer()
    reach(run, random.randint(85, 95))
    two.send_signal(signal.SIGTERM)
    assert two.wait(60) == 0
    assert again(run).status == RunStatus.QUEUED
    trainer()
    check(ended(run), like=whole)


def test_kill_9_while_a_checkpoint_is_written(trainer):
    version = running.store_version()
    run = running.start(version=version, chosen=CHOSEN)

    trainer(program=("-m", "training.tests.dying_trainer"))

    claims = set()
    until(lambda: claims.add(again(run).claim) or run.status in ENDED)
    assert len(claims - {None}) == 2
    whole = ended(running.start(version=version, chosen=CHOSEN))
    check(run, like=whole)


def test_a_run_that_is_called_off_has_no_process_any_more(trainer):
    run = running.start(chosen=RunSettings(epochs=100, save_every=1000))
    one = trainer()
    reach(run, 3)

    cancel(again(run), user=None)

    until(lambda: again(run).status == RunStatus.CANCELLED, seconds=5)
    assert not children(one)
    until(lambda: not folder_of(run).exists())


@pytest.mark.parametrize(
    ("limits", "chosen", "code"),
    [
        ({"TRAINING_MEMORY_MB": "250"}, {}, "out_of_memory"),
        ({"TRAINING_DISK_MB": "1"}, {"rank": 256}, "disk_full"),
    ],
)
def test_what_it_may_use_is_counted(trainer, limits, chosen, code):
    run = running.start(chosen=RunSettings(epochs=3, save_every=2, **chosen))

    trainer(**limits)

    assert (ended(run).status, run.error_code) == (RunStatus.FAILED, code)
    until(lambda: not folder_of(run).exists())
    assert not Adapter.objects.exists()


def test_the_command_trains_and_tells_what_came_of_it(capsys, tmp_path):
    running.store_version()

    call_command("train", dataset="Numbers", epochs=1, json=True)

    run = TrainingRun.objects.get()
    assert run.status == RunStatus.SUCCEEDED
    assert Adapter.objects.get(run=run.pk).name in capsys.readouterr().out


def test_the_command_says_why_it_failed(model):
    rows = tiny.rows(4)
    rows[2]["messages"][1]["content"] = "long " * 500
    running.store_version(rows)

    with pytest.raises(CommandError, match="Row 3 has"):
        call_command("train", dataset="Numbers", epochs=1, max_length=100)
