"""The versions that the lock holds are beyond the known holes of these packages."""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LEAST = {
    "django": (5, 2, 8),
    "daphne": (4, 2, 2),
    "redis": (4, 5, 5),
    "torch": (2, 6),
    "transformers": (5, 3, 0),
    "pyjwt": (2, 4),
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([0-9.]+)\S*$", re.MULTILINE)


def locked():
    """The versions by the package's name, of all locks of a running site."""
    text = "\n".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-model.txt"))
    pins = _PIN.findall(text)
    return {name.lower().replace("_", "-"): tuple(map(int, version.split("."))) for name, version in pins}


@pytest.mark.parametrize("name", LEAST)
def test_a_version_is_no_older_than_its_last_known_hole(name):
    assert locked()[name] >= LEAST[name]


def test_no_package_fetches_and_runs_foreign_kernels():
    assert "kernels" not in locked()


def test_every_line_of_the_lock_is_one_version():
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-model.txt"):
        lines = (ROOT / name).read_text().splitlines()
        free = [line for line in lines if line and not line.startswith(("#", "-", " ")) and "==" not in line]
        assert not free, name


def test_an_image_is_built_of_files_that_are_known_to_the_byte():
    """All of the lock but torch, which has a build for each kind of machine."""
    names = ("requirements.txt", "requirements-model.txt")
    lines = [line for name in names for line in (ROOT / name).read_text().splitlines()]
    pins = {line for line in lines if "==" in line and not line.startswith(("#", "-", "torch=="))}
    text = (ROOT / "requirements-hashes.txt").read_text().replace(" \\\n", "")
    hashed = [line.partition("    --hash=sha256:") for line in text.splitlines() if not line.startswith("#")]

    assert {pin for pin, _, _ in hashed} == pins, "run scripts/lock-hashes"
    assert all(hashes for _, _, hashes in hashed)
    image = (ROOT / "Dockerfile").read_text()
    assert "ARG LOCKS=requirements-hashes.txt\n" in image
    assert 'pip install --no-deps --requirement "$lock"' in image


def test_the_lock_is_whole():
    """What a locked package asks for is locked too: nothing is installed that nobody has looked at."""
    asked = [
        Requirement(line.partition(" #")[0])
        for line in (ROOT / "requirements.in").read_text().splitlines()
        if line[:1] not in ("", "#")
    ]
    wanted = [one for one in asked if one.marker is None or one.marker.evaluate()]
    todo = {(canonicalize_name(one.name), extra) for one in wanted for extra in ("", *one.extras)}
    seen, names = set(), {canonicalize_name(name) for name in locked()}
    while todo:
        seen.add(now := todo.pop())
        name, extra = now
        assert name in names
        for one in map(Requirement, distribution(name).requires or []):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                todo |= {(canonicalize_name(one.name), more) for more in ("", *one.extras)} - seen
