"""Real engine processes on the test database: adapters come and go while they answer."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from inference.adapters import confirmed, publish
from inference.engine.base_model import base_model, weights_folder
from inference.models import AdapterLoad, ChatModelConfig, EngineProcess
from inference.tests.engine.conftest import ROOT
from inference.tests.engine.serving import Served
from inference.tests.engine.test_serve_model import wait_until_ready
from inference.tests.tiny import make_adapter, make_model
from llmsite.testing.site import database_url, free_port

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PATIENCE = 120
QUESTION = "What is the capital of France?"


@pytest.fixture
def root(tmp_path, settings):
    settings.ADAPTERS_ROOT = tmp_path / "adapters"
    return tmp_path


@contextlib.contextmanager
def engine(root, models_root, *, ends=0, **environment):
    """A process `serve_model`, which ends with the status `ends`."""
    served = Served(free_port())
    settings = {
        "DATABASE_URL": database_url(),
        "ADAPTERS_ROOT": str(root / "adapters"),
        "MODELS_ROOT": str(models_root),
        "MODEL_URL": f"http://127.0.0.1:{served.port}",
        "DEVICE": "cpu",
        "EMBEDDING_MODEL": str(root),  # There is none, so nothing is loaded for it.
        **environment,
    }
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve_model"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    served.process = process
    try:
        wait_until_ready(process, served)
        yield served
    finally:
        process.terminate()
        output = process.communicate(timeout=PATIENCE)[0]
    assert (process.returncode, "Traceback" in output) == (ends, False), output


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def published(root, folder, base, *, seed=1):
    made = make_adapter(root / f"trained-{seed}", folder, seed=seed)
    return publish(made, base_model=base.name, base_sha256=base.sha256)


def give(name):
    assert ChatModelConfig.objects.filter(provider="local").update(adapter=name)


def test_the_packaged_model_learns_and_forgets_while_it_answers(root, models_root):
    base = base_model("", models_root)
    adapter = published(root, weights_folder(base, models_root), base)
    with engine(root, models_root) as served:
        before = served.text(QUESTION)
        assert "Paris" in before
        until(lambda: EngineProcess.objects.live().count() == 1)

        story = served.stream("Tell me a long story.", max_tokens=400)
        assert next(story)
        give(adapter.name)
        until(lambda: confirmed(adapter).is_complete)
        changed = served.text(QUESTION, model=adapter.name, max_tokens=20)
        # Whoever was being answered all the time got to the end.
        *_, last, done = story
        assert (last["choices"][0]["finish_reason"] in ("stop", "length"), done) == (True, "[DONE]")
        assert changed != served.text(QUESTION, max_tokens=20)
        assert served.text(QUESTION) == before

        give("")
        until(lambda: not AdapterLoad.objects.exists())
        until(lambda: served.chat(QUESTION, model=adapter.name, max_tokens=1)[0] == 404)
        assert served.text(QUESTION) == before
    assert not EngineProcess.objects.exists()


def test_every_process_confirms_and_one_that_starts_later_catches_up(root, models_root, tmp_path):
    folder = make_model(tmp_path / "tiny")
    base = base_model(str(folder), models_root)
    first, second = (published(root, folder, base, seed=seed) for seed in (1, 2))
    tiny = {"LOCAL_MODEL_PATH": str(folder)}
    with engine(root, models_root, **tiny) as one:
        give(first.name)
        until(lambda: confirmed(first).is_complete)
        with engine(root, models_root, **tiny) as other:
            until(lambda: confirmed(first).ready == 2)
            give(second.name)
            until(lambda: confirmed(second).ready == 2)
            answers = {served.text(QUESTION, model=second.name, max_tokens=10) for served in (one, other)}
            assert len(answers) == 1
        # One that has gone in order is waited for by nobody.
        until(lambda: confirmed(second).ready == 1)
        assert confirmed(second).is_complete


def test_a_killed_process_is_followed_by_one_that_loads_what_is_live(root, models_root, tmp_path):
    folder = make_model(tmp_path / "tiny")
    base = base_model(str(folder), models_root)
    adapter = published(root, folder, base)
    tiny = {"LOCAL_MODEL_PATH": str(folder)}
    with engine(root, models_root, ends=-signal.SIGKILL, **tiny) as served:
        give(adapter.name)
        until(lambda: confirmed(adapter).is_complete)
        expected = served.text(QUESTION, model=adapter.name, max_tokens=10)
        served.process.kill()
    with engine(root, models_root, **tiny) as served:
        until(lambda: served.chat(QUESTION, model=adapter.name, max_tokens=1)[0] == 200)
        assert served.text(QUESTION, model=adapter.name, max_tokens=10) == expected
        # Until the dead one is taken for dead, nobody says that all have it.
        until(lambda: confirmed(adapter).is_complete)
