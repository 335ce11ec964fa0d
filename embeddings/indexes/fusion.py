"""One ranking out of two, by scores. Ranks alone would lose what the better of the two knows.

A chunk's score is a weighted mean of its cosine and of its BM25, the latter as a share of the best one for
this question. The weight is that of the language of its document: an encoder of English sees little in
Spanish. docs/decisions/0015-search.md has the measurements.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Scored(NamedTuple):
    """A chunk with its cosine and its BM25, as far as they are known, and the language of its document."""

    chunk: int
    language: str
    vector: float | None
    lexical: float | None


class Weighing(NamedTuple):
    """How much an encoder's cosines count."""

    floor: float
    """The cosine below which two texts have nothing to do with each other."""
    enough: float
    """The BM25 at which a chunk says what the words ask for. Less is not blown up where nothing says more: a
    question in another language than the texts has a name in common with them, and no more."""
    shares: Mapping[str, float]
    """What part of a score the cosine is, by language."""
    otherwise: float

    def share(self, language: str) -> float:
        return self.shares.get(language, self.otherwise)


MONOLINGUAL = Weighing(floor=0.0, enough=0.2, shares={"en": 0.6, "": 0.6}, otherwise=0.3)
MULTILINGUAL = Weighing(floor=0.7, enough=0.4, shares={}, otherwise=0.75)


def weighing_of(embedder: str) -> Weighing:
    """What is known of an encoder by its name: to e5 all texts are .7 alike, many read English alone."""
    return MULTILINGUAL if is_multilingual(embedder) else MONOLINGUAL


def is_multilingual(embedder: str) -> bool:
    return bool(re.search(r"multilingual|-m3\b", embedder.lower()))


def fuse(candidates: Sequence[Scored], weighing: Weighing) -> list[tuple[int, float]]:
    """Chunks with their scores from 0 to 1, the best first; of equal ones the older first.

    Where all have only one of the scores, that one counts alone. One without a cosine has a vector of another
    encoder than the question's, so its words count alone.
    """
    best = max((one.lexical or 0.0 for one in candidates), default=0.0)
    by_words = best > 0
    best = max(best, weighing.enough)
    scores = [(one.chunk, _score(one, weighing, best if by_words else 0.0)) for one in candidates]
    return sorted(scores, key=lambda scored: (-scored[1], scored[0]))


def _score(one: Scored, weighing: Weighing, best: float) -> float:
    lexical = (one.lexical or 0.0) / best if best else 0.0
    vector = max((one.vector or 0.0) - weighing.floor, 0.0) / (1 - weighing.floor)
    by_vector = one.vector is not None
    share = weighing.share(one.language) if by_vector and best else float(by_vector)
    return min(share * vector + (1 - share) * lexical, 1.0)
