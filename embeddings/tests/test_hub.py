"""An id of the Hugging Face hub, fetched from a hub on this machine."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.conf import settings

REVISION = "a" * 40
FETCH = "from embeddings.weights import model_folder; print(model_folder('somebody/model'))"


def safetensors():
    head = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    return len(head).to_bytes(8, "little") + head


FILES = {
    "config.json": b"{}",
    "model.safetensors": safetensors(),
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"raise SystemExit",
    "onnx/model.json": b"{}",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as fetching a model needs."""

    def do_GET(self):
        if self.path.startswith("/api/"):
            self._send(200, json.dumps(self._listing()).encode(), {"Content-Type": "application/json"})
            return
        name = self.path.partition(f"/{REVISION}/")[2]
        self.server.fetched.add(name)
        body = FILES[name]
        self._send(200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": REVISION})

    def do_HEAD(self):
        self.do_GET()

    def _listing(self):
        if "/tree/" in self.path:
            return [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in FILES.items()
            ]
        siblings = [{"rfilename": name} for name in FILES]
        return {"id": "somebody/model", "sha": REVISION, "siblings": siblings}

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.fetched = set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_of_a_model_on_the_hub_nothing_is_fetched_that_could_run(hub, tmp_path):
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    fetched = subprocess.run(
        [sys.executable, "-c", FETCH],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.strip().endswith(REVISION)
    assert hub.fetched == {"config.json", "model.safetensors"}
