"""JSON for what is written or read with every request or token, by orjson.

The standard library takes four to fifteen times as long (docs/decisions/0017-orjson.md). It is asked where
orjson refuses, which it does for whole numbers beyond 64 bits and for half surrogate pairs.
"""

import json
from typing import Any

import orjson

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(data: Any) -> bytes:
    """`data` as JSON in UTF-8, without spaces. Raises TypeError where it is none."""
    try:
        return orjson.dumps(data)
    except TypeError:
        return _ENCODER.encode(data).encode()


def decode(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError where it is none."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
