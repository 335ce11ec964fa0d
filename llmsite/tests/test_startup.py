"""What the web process loads and reaches for when it starts."""

import json
import os
import subprocess
import sys

import uvicorn
from django.conf import settings

from llmsite.management.commands import serve_web

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "onnxruntime",
    "anthropic",
    "openai",
    "daphne",
    "faiss",
    "numpy",
    "huggingface_hub",
    "starlette",
)

START = """
import json, re, resource, sys
reached = []

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        reached.append(repr(args))

sys.addaudithook(watch)
import llmsite.asgi
from llmsite.management.commands import serve_web
serve_web._config().load()
modules = {name.split(".")[0] for name in sys.modules}
if sys.platform == "linux":
    # The peak that getrusage tells includes that of the parent, before this program began.
    kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
else:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"modules": sorted(modules), "reached": reached, "kilobytes": kilobytes}))
"""


def start():
    environment = {**os.environ, "ENV_FILE": ""}
    command = [sys.executable, "-c", START]
    ended = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(ended.stdout.splitlines()[-1])


def test_the_web_process_starts_light_and_calls_nobody():
    started = start()

    assert not set(HEAVY) & set(started["modules"])
    assert started["reached"] == []
    assert started["kilobytes"] < 150_000


async def test_a_process_ends_though_what_it_had_to_do_before_fails(monkeypatch):
    async def fail(_seconds):
        raise RuntimeError

    monkeypatch.setattr(serve_web, "drain", fail)
    server = serve_web._Server(uvicorn.Config("unused:app"), drain_seconds=1)

    await server._drain()

    assert server.should_exit
