"""The process `worker`, as the Procfile runs it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from django.conf import settings
from django_tasks_db.models import DBTaskResult

from embeddings.deletion import clear_up
from llmsite.testing.site import ROOT, database_url

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def start():
    running = []

    def start():
        environment = {**os.environ, "DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL}
        environment["MODEL_URL"] = "http://127.0.0.1:9"
        command = [sys.executable, "manage.py", "worker"]
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def until(is_so, seconds=40):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_takes_what_waits_and_ends_when_it_is_asked_to(start):
    result = clear_up.enqueue("01900000-0000-7000-8000-000000000000", [])
    process = start()
    # The model process is away, so the task is begun, and waits.
    until(lambda: DBTaskResult.objects.get(pk=result.id).run_after.year < 9000)

    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert DBTaskResult.objects.get(pk=result.id).status == "READY"


def test_the_task_of_one_that_was_killed_is_taken_by_another(start):
    result = clear_up.enqueue("01900000-0000-7000-8000-000000000000", [])
    left = {"status": "RUNNING", "worker_ids": ["dead"], "run_after": "2026-01-01T00:00Z"}
    DBTaskResult.objects.update(**left, started_at=left["run_after"])
    start(), start()

    # The dead one's try counts; those that wait for the model process do not.
    until(
        lambda: DBTaskResult.objects.filter(
            pk=result.id, status="READY", run_after__gt="2026-02-01T00:00Z"
        ).exists()
    )
    assert DBTaskResult.objects.get(pk=result.id).worker_ids[:1] == ["dead"]
