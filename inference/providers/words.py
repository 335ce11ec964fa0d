"""Words as tokens, for the providers that have no model."""

import re

_WORD = re.compile(r"\s*\S+|\s+$")


def words(text: str) -> list[str]:
    """The words of `text`, each with the space before it, so that they join to `text`."""
    return _WORD.findall(text)
