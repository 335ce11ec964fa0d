"""What may be turned into vectors."""

from typing import Literal

Kind = Literal["query", "passage"]
"""Some models see a question and a text that may answer it with different eyes."""

MOST_TEXTS = 2048
"""In one request."""

ROWS_AT_ONCE = 32
"""Vectors that are written as JSON before somebody else's request gets a turn."""
