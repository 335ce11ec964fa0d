"""The shapes of what the JSON of an archive says. Anybody may have written it."""

from collections.abc import Callable
from typing import Any


def is_about(value: dict[str, Any]) -> bool:
    """Whether these are the words of `about.json`; those of another form are only asked for their number."""
    return type(value.get("format")) is int and (
        value["format"] != 1
        or (
            all(_is_text(value.get(name)) for name in ("site", "made_at", "engine"))
            and _is_list(value.get("migrations"), _is_migration)
        )
    )


def is_manifest(value: dict[str, Any]) -> bool:
    return (
        _is_dict(value.get("tables"), _is_table)
        and _is_dict(value.get("parts"), _is_part)
        and _is_dict(value.get("files"), _is_count)
        and _is_list(value.get("missing"), _is_text)
    )


def _is_table(value: object) -> bool:
    return (
        isinstance(value, dict) and _is_count(value.get("rows")) and _is_list(value.get("columns"), _is_text)
    )


def _is_part(value: object) -> bool:
    return isinstance(value, dict) and _is_text(value.get("sha256")) and _is_count(value.get("bytes"))


def _is_migration(value: object) -> bool:
    return _is_list(value, _is_text) and isinstance(value, list) and len(value) == 2


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_list(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_dict(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))
