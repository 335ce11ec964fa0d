"""What schemathesis makes of `GET /api/schema`, sent to a real site: no 500, and nothing else than it says.

It looks at statuses, bodies, headers and content types, and at whether what does not fit is refused. The seed
is fixed, so a run finds what the one before found.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from accounts.tokens import sign_in
from conftest import bearer
from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving
from inference.models import ChatModelConfig
from llmsite.testing.site import ROOT, Site

ACCOUNT = "/api/auth/(me|keys).*"
"""What no key reaches, only a person's sign-in. The other doors of accounts would end that, or change it."""


@pytest.fixture
def fuzzed_site(transactional_db):
    ChatModelConfig.objects.all().delete()
    for alias, provider in (("smollm2-135m-instruct", "scripted"), ("echo", "echo")):
        is_default = provider == "scripted"
        ChatModelConfig.objects.create(
            alias=alias, provider=provider, provider_model=provider, is_default=is_default
        )
    limits = dict.fromkeys(("RATE_LIMIT", "RATE_LIMIT_ADDRESS", "LOGIN_RATE_LIMIT"), "1000000/s")
    encoder = ScriptedEncoder()
    with serving(lambda: encoder) as model_process:
        with Site(MODEL_URL=f"http://127.0.0.1:{model_process.port}", LOG_LEVEL="error", **limits) as running:
            yield running
        encoder.release_all()


def fuzz(site, folder, authorization, *options):
    """How many requests a run sent that found nothing."""
    tool = ROOT / ".venv" / "bin" / "schemathesis"
    settings = Path(__file__).with_name("schemathesis.toml")
    command = [tool, "--config-file", settings, "run", f"{site.url}/api/schema", "--seed", "1"]
    command += ["-H", f"Authorization: {authorization}", "--continue-on-failure", "--no-color", *options]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return int(re.search(r"(\d+) generated", ended.stdout)[1])


def test_the_examples_of_the_schema_work(fuzzed_site, tmp_path, staff):
    assert fuzz(fuzzed_site, tmp_path, bearer(staff)["Authorization"], "--phases", "examples") > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_a_key_nothing_is_found(fuzzed_site, tmp_path, staff):
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "40"]
    assert fuzz(fuzzed_site, tmp_path, bearer(staff)["Authorization"], *options) > 3000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_a_sign_in_nothing_is_found_in_the_account(fuzzed_site, tmp_path, staff):
    options = ["--phases", "coverage,fuzzing", "--max-examples", "40", "--include-path-regex", ACCOUNT]
    assert fuzz(fuzzed_site, tmp_path, f"Bearer {sign_in(staff).access}", *options) > 200
