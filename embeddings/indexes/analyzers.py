"""How texts of each language become the words that are looked for.

A language with an analyzer has a field of its own in the index; all others share one without stems. Texts
that are written without spaces are cut into pairs of characters.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tantivy import TextAnalyzer

STEMMED = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ru": "russian",
    "sv": "swedish",
}
"""By ISO code: the languages with a stemmer and a list of words that say nothing."""
WITHOUT_SPACES = {"ja", "km", "lo", "my", "th", "zh"}

PLAIN, PAIRS = "plain", "pairs"
FIELDS = (*STEMMED, PLAIN, PAIRS)
LONGEST_WORD = 40


def field_of(language: str) -> str:
    """The field of texts in `language`, an ISO code or empty where it is not known."""
    if language in WITHOUT_SPACES:
        return PAIRS
    return language if language in STEMMED else PLAIN


@lru_cache(maxsize=len(FIELDS))
def analyzer(field: str) -> "TextAnalyzer":
    from tantivy import TextAnalyzerBuilder, Tokenizer

    tokenizer = Tokenizer.ngram(2, 2) if field == PAIRS else Tokenizer.simple()
    builder = TextAnalyzerBuilder(tokenizer)
    for each in _filters(field):
        builder = builder.filter(each)
    return builder.build()


def _filters(field: str) -> Iterator[Any]:
    from tantivy import Filter

    yield Filter.remove_long(LONGEST_WORD)
    yield Filter.lowercase()
    if field in STEMMED:
        yield Filter.stopword(STEMMED[field])
        yield Filter.stemmer(STEMMED[field])
    yield Filter.ascii_fold()
