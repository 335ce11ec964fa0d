"""An answer as the cache keeps it: on every level the same plain JSON, never a pickle."""

import json
import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from inference.grounding.grounds import Grounds, grounds_from

SCHEMA = 2
"""Counts changes of what is stored; an entry of another one is not read."""
MOST_CHARACTERS = 200_000
"""Longer answers are not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """A whole answer. `key` repeats where it is kept, so that one in the wrong place is never told.

    `delta_lengths` are its pieces in characters, and `created` a Unix time in seconds. `grounds` is what it
    stands on, where that is documents.
    """

    key: str
    text: str
    delta_lengths: tuple[int, ...]
    finish_reason: str
    input_tokens: int
    output_tokens: int
    created: float
    grounds: Grounds | None = None

    @property
    def characters(self) -> int:
        """Of all its texts."""
        return len(self.text) + (sum(len(s.text) for s in self.grounds.sources) if self.grounds else 0)

    def pieces(self) -> list[str]:
        """The text as it once came."""
        pieces, at = [], 0
        for length in self.delta_lengths:
            pieces.append(self.text[at : at + length])
            at += length
        return pieces

    def expires_in(self, ttl: float) -> float:
        """Seconds that are left of a life of `ttl` seconds; also where a clock was set back, no more."""
        return min(ttl, self.created + ttl - time.time())

    def dumps(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, ensure_ascii=False, separators=(",", ":"))


_TYPES: dict[str, Any] = {
    "key": str,
    "text": str,
    "delta_lengths": list,
    "finish_reason": str,
    "input_tokens": int,
    "output_tokens": int,
    "created": (int, float),
    "grounds": (dict, type(None)),
}
assert set(_TYPES) == {field.name for field in fields(CachedAnswer)}


def loads(text: object, *, key: str | None = None) -> CachedAnswer | None:
    """The answer in `text`; None where it is none of this version, or of another key than `key`."""
    try:
        values = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
        return None
    if values.keys() != _TYPES.keys() or (key is not None and values["key"] != key):
        return None
    if not all(isinstance(values[name], kind) for name, kind in _TYPES.items()):
        return None
    try:
        grounds = grounds_from(values["grounds"])
    except (LookupError, TypeError, ValueError):
        return None
    answer = CachedAnswer(**{**values, "delta_lengths": tuple(values["delta_lengths"]), "grounds": grounds})
    return answer if sum(answer.delta_lengths) == len(answer.text) else None
