"""LiteLLM's proxy, for comparison: in a virtual environment of its own below .bench/."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench._processes import ROOT, Process, free_port, running

VERSION = "1.106.2"
MASTER_KEY = "sk-bench"
MODEL = "bench"
VENV = ROOT / ".bench" / "litellm"
_STAMP = VENV / f"litellm-{VERSION}.installed"


@contextmanager
def litellm(*, upstream: int, cache: bool, core: int | None = None) -> Iterator[tuple[int, Process]]:
    """One worker with a master key and no database, its cache in memory where wanted; port and process."""
    _install()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(_config(upstream, cache=cache)))  # JSON is YAML.
        program = str(VENV / "bin" / "litellm")
        command = [program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        environment: dict[str, str | None] = {
            "LITELLM_MASTER_KEY": MASTER_KEY,
            # It asks nobody for prices and reports nothing.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "NO_PROXY": "127.0.0.1",
            "DATABASE_URL": None,
            "REDIS_URL": None,
        }
        with running(command, port=port, core=core, env=environment, quiet=True) as process:
            yield port, process


def _config(upstream: int, *, cache: bool) -> dict[str, object]:
    model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "sk-x"}
    settings: dict[str, object] = {"telemetry": False}
    if cache:
        settings |= {"cache": True, "cache_params": {"type": "local"}}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "litellm_settings": settings,
        "general_settings": {"master_key": MASTER_KEY},
    }


def _install() -> None:
    if _STAMP.exists():
        return
    print(f"installing LiteLLM {VERSION} into {VENV.relative_to(ROOT)} (once; about a minute)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    install = [str(VENV / "bin" / "pip"), "install", "--quiet", f"litellm[proxy]=={VERSION}"]
    subprocess.run(install, check=True)
    _STAMP.touch()
