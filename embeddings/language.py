"""Which language a text is in, where that can be said."""

import re
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SAMPLE = 20_000
"""Characters that are looked at; more of them change nothing."""
FEWEST_LETTERS = 12
SURE = 0.6

LETTER = re.compile(r"[^\W\d_]")
# Addresses, code and the like look like English to a model that counts letters.
NO_WORD = re.compile(r"[_/\\<>{}=|]|.@.")
NUMBER = re.compile(r"\d+")


def detect(text: str, *, among: Collection[str] = ()) -> str:
    """The ISO 639-1 code, such as "en" or "es"; "" where the text is too short or the guess unsure.

    With `among`, the likeliest of those languages. The same text has always the same answer.
    """
    words = _words(text[:SAMPLE])
    if len(LETTER.findall(words)) < FEWEST_LETTERS:
        return ""
    ranked = _identifier().rank(words)
    if among:
        ranked = _shares([(language, share) for language, share in ranked if language in among])
    language, share = max(ranked, key=lambda one: one[1], default=("", 0.0))
    return str(language) if share >= SURE else ""


def _words(text: str) -> str:
    # Split first: a pattern of what is around such a mark takes minutes where there are no spaces.
    return NUMBER.sub(" ", " ".join(word for word in text.split() if not NO_WORD.search(word)))


def _shares(ranked: list[tuple[str, float]]) -> list[tuple[str, float]]:
    total = sum(share for _, share in ranked)
    return [(language, share / total) for language, share in ranked] if total else []


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
