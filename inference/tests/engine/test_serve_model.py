"""The command itself, as a process."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from django.core.management import CommandError, call_command

from inference.tests.engine.conftest import ROOT
from inference.tests.engine.serving import Served
from llmsite.testing.site import free_port

PATIENCE = 60
# Writes down every connection and look-up that Python makes in the process.
WATCH = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{event} {arguments[-1]!r}\\n")
sys.addaudithook(watch)
"""


def start(port, models_root, **environment):
    settings = {"MODEL_URL": f"http://127.0.0.1:{port}", "MODELS_ROOT": str(models_root), "DEVICE": "cpu"}
    return subprocess.Popen(
        [sys.executable, "manage.py", "serve_model"],
        cwd=ROOT,
        env={**os.environ, "LOCAL_MODEL_PATH": "", **settings, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_ready(process, served):
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            return served.send("GET", "/health")
        time.sleep(0.05)
    raise AssertionError(process.communicate()[0])


def wait_for_the_embedder(served):
    """How it stands when it does not load any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        embedder = served.send("GET", "/health")[1]["embedder"]
        if embedder["status"] != "loading":
            return embedder
        time.sleep(0.05)
    raise AssertionError("the embedder is still loading")


@pytest.fixture(scope="module")
def process(models_root, tmp_path_factory):
    """The default model served in a process whose every connection is written down."""
    folder = tmp_path_factory.mktemp("process")
    (folder / "sitecustomize.py").write_text(WATCH)
    (folder / "home").mkdir()
    places = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home"), "PYTHONPATH": str(folder)}
    served = Served(free_port())
    process = start(served.port, models_root, ATTEMPTS=str(folder / "attempts"), **places)
    served.health = wait_until_ready(process, served)
    wait_for_the_embedder(served)
    served.folder, served.process = folder, process
    yield served
    process.terminate()
    process.communicate(timeout=PATIENCE)


def test_the_default_model_is_served(process):
    status, health, _ = process.health
    assert (status, health["model"], health["engine"], health["slots_in_use"]) == (
        200,
        "smollm2-135m-instruct",
        "onnxruntime",
        0,
    )
    assert "Paris" in process.text("What is the capital of France?")


def test_the_default_embedding_model_is_served_beside_it(process):
    status, body, _ = process.send("POST", "/v1/embeddings", {"input": ["A cat.", "A small cat.", "Taxes."]})
    cat, small_cat, taxes = (item["embedding"] for item in body["data"])

    assert (status, body["model"], len(cat)) == (200, "all-MiniLM-L6-v2", 384)
    assert similarity(cat, small_cat) > 0.7 > 0.3 > similarity(cat, taxes)


def similarity(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_nothing_calls_home(process):
    process.text("What is the capital of Italy?", max_tokens=4)
    process.send("POST", "/v1/embeddings", {"input": "What is the capital of Italy?"})
    assert not (process.folder / "attempts").exists()
    # onnxruntime's telemetry keeps an id under the home folder.
    assert list((process.folder / "home").rglob("*")) == []


def test_it_ends_at_once_and_cleanly_when_asked_to(models_root):
    served = Served(free_port())
    process = start(served.port, models_root)
    wait_until_ready(process, served)
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0


def test_the_chat_model_is_served_without_an_embedding_model(models_root, tmp_path):
    with running(models_root, EMBEDDING_MODEL=str(tmp_path)) as served:
        embedder = wait_for_the_embedder(served)
        assert embedder["status"] == "failed"
        assert str(tmp_path) in embedder["reason"]
        assert "Paris" in served.text("What is the capital of France?", max_tokens=10)


def test_beside_another_server_there_are_only_embeddings(models_root):
    with running(models_root, LOCAL_BASE_URL=f"http://127.0.0.1:{free_port()}/v1") as served:
        health = served.send("GET", "/health")[1]
        assert (health["model"], health["embedder"]["model"]) == (None, "all-MiniLM-L6-v2")


@contextlib.contextmanager
def running(models_root, **environment):
    served = Served(free_port())
    process = start(served.port, models_root, **environment)
    try:
        wait_until_ready(process, served)
        yield served
    finally:
        process.terminate()
        output = process.communicate(timeout=PATIENCE)[0]
    assert (process.returncode, "Traceback" in output) == (0, False), output


def test_a_taken_port_is_one_clear_line(models_root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(port, models_root)
        output = process.communicate(timeout=PATIENCE)[0]

    assert process.returncode == 1
    assert len(output.strip().splitlines()) == 1, output
    assert f"Cannot listen on 127.0.0.1:{port} (MODEL_URL)" in output


@pytest.fixture
def refusal(models_root, settings, monkeypatch):
    """What the command says instead of serving with these settings; it runs in the process of the test."""
    monkeypatch.setattr("inference.management.commands.serve_model.close_the_hub", lambda *models: None)
    on_term = signal.getsignal(signal.SIGTERM)

    def serve(**changed):
        given = {"LOCAL_MODEL_PATH": "", "DEVICE": "cpu", "MODELS_ROOT": models_root, **changed}
        for name, value in {"MODEL_URL": f"http://127.0.0.1:{free_port()}", **given}.items():
            setattr(settings, name, value)
        with pytest.raises(CommandError) as refused:
            call_command("serve_model")
        assert len(str(refused.value).splitlines()) == 1
        return str(refused.value)

    yield serve
    signal.signal(signal.SIGTERM, on_term)


def test_a_missing_model_is_one_clear_line(refusal, tmp_path):
    assert str(tmp_path / "nothing") in refusal(LOCAL_MODEL_PATH=str(tmp_path / "nothing"))


def test_a_directory_that_is_no_model_is_one_clear_line(refusal, tmp_path):
    assert str(tmp_path / "config.json") in refusal(LOCAL_MODEL_PATH=str(tmp_path))


def test_an_absent_device_is_one_clear_line(refusal):
    assert "DEVICE is mps" in refusal(DEVICE="mps")


def test_a_folder_that_cannot_be_written_is_one_clear_line(refusal, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(MODELS_ROOT=tmp_path / "file")
