"""Settings: refused in one line where they are wrong, and described where people look."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from llmsite.settings import env

ROOT = Path(settings.BASE_DIR)
GOOD_KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF"


def start(**environment):
    """What `manage.py check` says with these settings alone."""
    given = {"PATH": os.environ["PATH"], "ENV_FILE": "", "SECRET_KEY": GOOD_KEY, **environment}
    command = [sys.executable, "manage.py", "check"]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60)


def read(**environment):
    """The settings that come of these alone. Raises ImproperlyConfigured."""
    with patch.dict(os.environ, {"ENV_FILE": "", "SECRET_KEY": GOOD_KEY, **environment}, clear=True):
        return runpy.run_path(str(ROOT / "llmsite" / "settings.py"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "tiny-key"),
        ("SECRET_KEY", "a" * 50),
        ("SECRET_KEY", "django-insecure-0123456789abcdefghijklmnopqrstuvwxyz"),
        ("DEBUG", "perhaps"),
        ("PORT", "http"),
        ("DEVICE", "tpu"),
        ("IDLE_TIMEOUT", "-1"),
        ("DATABASE_URL", "nonsense"),
        ("MODEL_URL", "localhost:8001"),
        ("MODEL_URL", "http://127.0.0.1:abc"),
        ("PORT", "99999"),
        ("REDIS_URL", "foo"),
        ("TRUSTED_PROXIES", "nonsense"),
        ("RATE_LIMIT", "60"),
        ("RATE_LIMIT", "0/m"),
        ("RATE_LIMIT_ADDRESS", "-1/m"),
        ("LOGIN_RATE_LIMIT", "10/fortnight"),
        ("WEB_PROCESSES", "0"),
        ("EMAIL_URL", "nonsense"),
        ("EMAIL_URL", "smtp+tls://"),
        ("EMAIL_URL", "smtp://mail.example.org:many"),
        ("CURRENCY", "dollars"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_setting(name, value):
    with pytest.raises(ImproperlyConfigured) as refused:
        read(**{name: value})

    text = str(refused.value)
    assert len(text.splitlines()) == 1
    assert name in text
    if name == "SECRET_KEY":
        assert "Make one:" in text
        assert not value or value not in text
    else:
        assert "for example" in text


def test_a_command_says_it_in_that_line_and_fails():
    ended = start(PORT="http")

    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("llmsite: PORT")


def test_a_secret_may_come_from_a_file(tmp_path):
    secret = tmp_path / "key"
    secret.write_text(GOOD_KEY)

    assert start(SECRET_KEY="", SECRET_KEY_FILE=str(secret)).returncode == 0


def described():
    """The rows of docs/settings.md: name → default."""
    rows = re.findall(
        r"^\| `([A-Z][A-Z0-9_]+)` \| (.*?) \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def test_each_setting_is_described_and_no_other():
    assert set(described()) == set(env.declared)


@pytest.mark.parametrize("name", sorted(env.declared))
def test_its_default_is_described_truly(name):
    default = env.declared[name].default
    shown = described()[name]
    if name == "SECRET_KEY":
        assert shown == "none: it must be set"
    elif default in ("", []):
        assert shown == "none"
    elif isinstance(default, bool):
        assert str(default).lower() in shown
    else:
        text = ", ".join(default) if isinstance(default, list) else str(default)
        assert text.replace(str(ROOT) + "/", "") in shown


def test_the_example_holds_each_setting_and_no_secret():
    names = re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert set(names) <= set(env.declared)
    assert re.search(r"^SECRET_KEY=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
