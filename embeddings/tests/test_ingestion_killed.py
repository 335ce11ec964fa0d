"""A worker that is killed at any moment: one complete version is seen, and nothing is left over."""

import os
import signal
import subprocess
import sys

import pytest
from django.conf import settings as site_settings
from django.test import Client

from conftest import bearer
from embeddings.indexes import client as index_client
from embeddings.models import Chunk, Collection, Document, DocumentVersion, Page, Status, Step
from embeddings.tests.documents import upload
from llmsite.core.worker import SILENCE_SECONDS, Worker
from llmsite.testing.site import ROOT, database_url

OLD = "The old fox is grey.\n\n" + "It sleeps. " * 200
NEW = "The new fox is red.\n\n" + "It hunts. " * 300
POINTS = [*Step, "embedding"]
FAST = Step.EMBEDDED


def cases():
    return [point if point == FAST else pytest.param(point, marks=pytest.mark.slow) for point in POINTS]


@pytest.fixture
def client(transactional_db, alice, settings, tmp_path, model_process):
    settings.MEDIA_ROOT = tmp_path
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    yield Client(headers=bearer(alice))
    Collection.objects.all().delete()


def die_at(point):
    """A real worker process that takes the task and is killed at `point`."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "REDIS_URL": site_settings.REDIS_URL,
        "MEDIA_ROOT": str(site_settings.MEDIA_ROOT),
        "MODEL_URL": site_settings.MODEL_URL,
        "LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "embeddings.tests.dying_worker", str(point)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, timeout=60)
    assert ended.returncode == -signal.SIGKILL


def recover():
    """What the next worker does, with a clock that does not keep the test waiting."""
    now = [0.0]
    worker = Worker(clock=lambda: now[0])
    worker.reap()
    now[0] += SILENCE_SECONDS
    assert worker.reap() == 1
    assert {ended.how for ended in worker.run_ready()} == {"done"}


def check_the_stores(document, text):
    """Rows, files and indexes hold one version of `document`, complete, and nothing else."""
    [version] = DocumentVersion.objects.all()
    assert (version.status, version.step, version.error) == (Status.READY, Step.COMMITTED, "")
    assert Document.objects.get(pk=document).current_id == version.pk
    assert "".join(Page.objects.values_list("text", flat=True)).strip() == text.strip()
    chunks = list(Chunk.objects.order_by("ordinal"))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.vector for chunk in chunks)
    assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(text.split())
    files = [path for path in site_settings.MEDIA_ROOT.rglob("*") if path.is_file()]
    assert [str(path.relative_to(site_settings.MEDIA_ROOT)) for path in files] == [version.file]
    assert index_client.sync() == 0, "the indexes hold what the rows say"


@pytest.mark.parametrize("point", cases())
def test_a_killed_worker_leaves_a_whole(client, point):
    pk = upload(client, OLD).json()["id"]
    Worker().run_ready()
    check_the_stores(pk, OLD)
    before = Collection.objects.get().version
    upload(client, NEW)

    die_at(point)

    shown = client.get(f"/api/documents/{pk}/pages").json()["results"]
    assert shown[0]["text"].strip() == (NEW if point == Step.COMMITTED else OLD).strip()
    current = Document.objects.get().current
    assert not current.chunks.filter(vector=None).exists()
    recover()
    check_the_stores(pk, NEW)
    assert Collection.objects.get().version == before + 1
