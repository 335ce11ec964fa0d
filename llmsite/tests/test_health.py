"""`/health/ready` part by part, and the slow stream of `/health/stream`."""

import shutil
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.test import AsyncClient, Client
from django.utils import timezone

from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving
from inference.tests.engine.fakes import ScriptedRunner, saying
from inference.tests.engine.serving import scripted_model
from llmsite import health
from training.models import TrainingRun
from training.tests.making import make_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def model_process(settings):
    with serving(lambda: ScriptedEncoder(), model=scripted_model(ScriptedRunner(saying("Hi.")))) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        yield served


def ready():
    answer = Client().get("/health/ready")
    return answer.status_code, answer.json()


def test_all_is_well(model_process):
    status, told = ready()

    assert (status, told["ready"]) == (200, True)
    assert set(told["parts"]) == {
        "database",
        "migrations",
        "cache",
        "model",
        "worker",
        "index",
        "trainer",
        "disk",
    }
    assert all(part["ok"] for part in told["parts"].values())


class TestWhatAnswersDoNotNeed:
    """Is told, and takes no web process out of service."""

    def test_an_encoder_that_does_not_load(self, settings):
        def fail():
            raise RuntimeError("/secret/folder is broken")

        model = scripted_model(ScriptedRunner(saying("Hi.")))
        with serving(fail, model=model) as served:
            settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
            status, told = ready()

        assert (status, told["ready"]) == (200, True)
        assert told["parts"]["index"]["ok"] is False
        assert told["parts"]["index"]["needed"] is False
        assert "(failed)" in told["parts"]["index"]["reason"]
        assert "/secret" not in str(told)

    def test_a_disk_with_little_space(self, model_process, monkeypatch, tmp_path, settings):
        settings.MEDIA_ROOT = tmp_path / "not" / "made" / "yet"
        usage = shutil.disk_usage
        little = SimpleNamespace(free=10**8)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: little if path == tmp_path else usage(path))
        status, told = ready()

        assert status == 200
        assert told["parts"]["disk"] == {
            "ok": False,
            "reason": "Little space is left on the disks of MEDIA_ROOT.",
            "needed": False,
        }

    def test_trainings_that_nobody_takes(self, model_process):
        run = make_run(status="queued")
        assert ready()[1]["parts"]["trainer"]["ok"]
        TrainingRun.objects.update(created_at=timezone.now() - timedelta(minutes=5))
        status, told = ready()

        assert status == 200
        assert "no trainer takes them" in told["parts"]["trainer"]["reason"]

        make_run(status="running", version=run.version, beat_at=timezone.now())
        assert ready()[1]["parts"]["trainer"]["ok"]


def test_what_answers_need_makes_it_unready(model_process, settings):
    settings.MODEL_URL = "http://127.0.0.1:9"
    status, told = ready()

    assert (status, told["ready"]) == (503, False)


async def test_the_stream_tells_its_ticks_one_by_one(monkeypatch):
    monkeypatch.setattr(health, "TICK_SECONDS", 0)
    answer = await AsyncClient().get("/health/stream")

    assert answer["Content-Type"] == "text/event-stream"
    assert answer["X-Accel-Buffering"] == "no"
    chunks = [chunk async for chunk in answer.streaming_content]
    assert chunks == [f"event: tick\ndata: {at}\n\n".encode() for at in range(health.TICKS)]
