"""Reads docker-compose.yml as Compose does, as far as this project uses it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<sign>:[-?])(?P<rest>[^}]*))?\})")
_ASSIGNMENT = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


class Unset(Exception):
    """A variable that has to be set is not; the text is what the file says to do."""


def load(values: Mapping[str, str], path: Path = COMPOSE_FILE) -> dict[str, Any]:
    """The file with `values` in place of its variables. Raises Unset."""
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: _filled(value, values) for key, value in whole.items() if not key.startswith("x-")}


def read_env(path: Path) -> dict[str, str]:
    """The assignments of a `.env` file."""
    return dict(_ASSIGNMENT.findall(path.read_text(encoding="utf-8")))


def variables(path: Path = COMPOSE_FILE) -> dict[str, str]:
    """The variables that the file asks for, with what stands for each where it is not set."""
    found = _VARIABLE.finditer(path.read_text(encoding="utf-8"))
    return {match["name"]: match["rest"] or "" for match in found if match["name"]}


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with `values` for `${NAME}`, `${NAME:-default}` and `${NAME:?message}`. Raises Unset."""

    def put(match: re.Match[str]) -> str:
        name, sign, rest = match["name"], match["sign"], match["rest"]
        if name is None:
            return "$"
        if values.get(name):
            return values[name]
        if sign == ":?":
            raise Unset(f"{name}: {rest}")
        return rest or ""

    return _VARIABLE.sub(put, text)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, dict):
        return {key: _filled(one, values) for key, one in value.items()}
    return value
