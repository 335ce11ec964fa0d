"""`.env.example` names every setting, and no secret."""

import re
from pathlib import Path

from llmsite import settings

EXAMPLE = (Path(__file__).resolve().parents[2] / ".env.example").read_text()
NAMES = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)


def test_it_names_every_setting_once():
    assert sorted(NAMES) == sorted(settings.env.declared)


def test_its_secrets_are_empty():
    secrets = re.findall(r"^(?:# )?\w*(?:_KEY|_TOKEN|PASSWORD)=(.*)$", EXAMPLE, re.MULTILINE)
    assert len(secrets) >= 3
    assert set(secrets) == {""}
