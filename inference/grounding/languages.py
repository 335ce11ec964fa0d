"""In which language a question is asked, as far as a few words tell."""

import asyncio
from collections.abc import Sequence

from embeddings.language import detect

_ASKED_IN = (
    *("ar", "ca", "cs", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "hu", "id", "it", "ja", "ko"),
    *("nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
)
"""With all of the world's languages as candidates one cannot be sure of a short question."""


async def question_language(text: str) -> str:
    """The code of ISO 639-1, such as `en`; empty where it is not sure."""
    # In a thread, because the first look reads a large table.
    return await asyncio.to_thread(detect, text, among=_ASKED_IN)


def speaks(languages: Sequence[str], language: str) -> bool:
    """Whether a model that lists `languages` knows `language`; one that lists none knows any."""
    return not languages or not language or language in {primary(known) for known in languages}


def primary(code: str) -> str:
    """The language of a code that may name a country too: `es` of `es-MX`."""
    return code.replace("_", "-").split("-", 1)[0].lower()
