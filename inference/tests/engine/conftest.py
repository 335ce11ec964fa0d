"""The models that the engine's tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference.engine.prepare import prepared_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def models_root() -> Path:
    """Where the packaged model is made ready once for all runs of the tests."""
    root = Path(os.environ.get("LLMSITE_TEST_MODELS_ROOT") or ROOT / ".cache" / "models")
    prepared_model(root)
    return root


@pytest.fixture
def run_python():
    """Runs a script in a process of its own and returns what it prints."""

    def run(script: str) -> str:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    return run
