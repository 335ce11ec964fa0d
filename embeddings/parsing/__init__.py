"""A document becomes text: its pages, their headings, its title.

parse(path, media_type) → Parsed, or ParsingFailed with one of the reasons of reasons.py

parser.py     what to call
sandbox.py    the child process, its deadline, and what its end means
limits.py     what one document may cost
child/        what runs in it: one file a format, and how it locks itself up first (lockdown.py)
"""

from embeddings.parsing.parser import Parsed, ParsedPage, limits_in_force, parse
from embeddings.parsing.reasons import ParsingFailed, Reason

__all__ = ["Parsed", "ParsedPage", "ParsingFailed", "Reason", "limits_in_force", "parse"]
