"""The site as its users have it: both processes, the real model, nothing in between."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from conftest import bearer
from inference.models import ChatModelConfig, Generation
from inference.tests.doors import joined
from inference.tests.test_faults import call, read_events
from inference.tests.waiting import until
from llmsite.testing.site import Site, database_url, free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.flows]

QUESTION = "What is the capital of France?"


@contextmanager
def model_process() -> Iterator[str]:
    """`serve_model` with the packaged model; its address once it answers."""
    url = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, "MODEL_URL": url, "DATABASE_URL": database_url(), "LOG_LEVEL": "warning"}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve_model"], cwd=settings.BASE_DIR, env=environment
    )
    try:
        yield url
    finally:
        process.terminate()
        assert process.wait(30) == 0


def is_ready(site):
    try:
        with urllib.request.urlopen(f"{site.url}/health/ready", timeout=5):
            return True
    except OSError:
        return False


async def test_a_question_is_answered_by_the_real_model(alice):
    await ChatModelConfig.objects.all().adelete()
    headers = await sync_to_async(bearer)(alice)

    with model_process() as url, Site(MODEL_URL=url) as site:
        # The first start on a machine makes the model ready, which takes a while.
        await until(lambda: is_ready(site), seconds=100)
        stream = await sync_to_async(call)(site, headers, "/api/predict/stream", {"prompt": QUESTION})
        events = await sync_to_async(read_events)(stream)

    # The model process has listed its model, and with no other there it is the default.
    assert (await ChatModelConfig.objects.aget()).provider == "local"
    text = joined(events)
    assert "Paris" in text
    assert len([event for event in events if event["type"] == "delta"]) > 3
    row = await Generation.objects.select_related("message").aget()
    assert row.message.content == text
    assert row.output_tokens == events[-1]["usage"]["output_tokens"] > 3
