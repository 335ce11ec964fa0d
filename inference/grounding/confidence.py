"""How likely the passages found answer a question: a probability, from a few numbers that were fitted.

The numbers are those that `manage.py evaluate_answers` prints; docs/decisions says from which questions, and
how well they do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from embeddings.search import Passage
from inference.grounding.words import content_words, sentences, share_found

ANSWERED_FROM = 0.5
"""The least confidence of an answer; below, the documents are said to have none."""

SENTENCES_OF = 3
"""Of how many passages, the best first, the sentences are looked through."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for an answer. `similarity` is the best cosine of question and passage, 0 without one.

    `in_passage` and `in_sentence` say which part of the question's words stands together in the best passage,
    and in the best sentence.
    """

    similarity: float
    in_passage: float
    in_sentence: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The logistic function of the signs."""

    constant: float
    similarity: float
    in_passage: float
    in_sentence: float

    def probability(self, signs: Signs) -> float:
        weight = (
            self.constant
            + self.similarity * signs.similarity
            + self.in_passage * signs.in_passage
            + self.in_sentence * signs.in_sentence
        )
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, weight))))


FITS = {
    "all-MiniLM-L6-v2": Fit(-10.90, 11.35, 7.66, 3.86),
    "multilingual-e5-small": Fit(-84.92, 96.38, 6.72, 2.48),
}
"""By encoder: cosines of one say little about those of another."""

BY_WORDS_ALONE = Fit(-6.35, 0.0, 9.79, 3.91)
"""For encoders that nobody has measured here, and where no vectors could be compared."""


_OF_THE_DOCUMENTS = frozenset(
    content_words(
        "document documents file files text texts page pages summary summarize summarise overview content "
        "contents collection passage documento documentos archivo archivos texto textos pagina paginas "
        "resumen resume resumir contenido coleccion"
    )
)
"""Words of questions about the documents as such, which need not stand in them."""
_BESIDE_THEM = frozenset(
    content_words(
        "topic topics main point points key give list describe explain tell "
        "tema temas puntos principales describe explica dime"
    )
)
"""Words that may stand beside one of those."""

ABOUT_FROM = 0.5
"""Which part of a question's words what was found for it and another one has to say."""


def asks_about_all(question: str) -> bool:
    """Whether a question such as "Summarize this document" fits whatever the documents say."""
    wanted = set(content_words(question))
    return bool(wanted & _OF_THE_DOCUMENTS) and wanted <= _OF_THE_DOCUMENTS | _BESIDE_THEM


def are_about(passages: Sequence[Passage], question: str) -> bool:
    """Whether one of `passages` has words of `question`, or it has none, as "And when was that?"."""
    wanted = content_words(question)
    return not wanted or any(share_found(wanted, passage.text) >= ABOUT_FROM for passage in passages)


def confidence(question: str, passages: Sequence[Passage], *, encoder: str) -> float:
    """From 0 to 1; 0 where nothing was found."""
    if not passages:
        return 0.0
    has_vectors = any(passage.vector_score is not None for passage in passages)
    fit = fit_of(encoder) if has_vectors else BY_WORDS_ALONE
    return fit.probability(signs_of(question, passages))


def fit_of(encoder: str) -> Fit:
    return FITS.get(encoder, BY_WORDS_ALONE)


def signs_of(question: str, passages: Sequence[Passage]) -> Signs:
    """The signs for at least one passage, given the best first."""
    wanted = content_words(question)
    lines = [line for passage in passages[:SENTENCES_OF] for line in sentences(passage.text)]
    return Signs(
        similarity=max(passage.vector_score or 0.0 for passage in passages),
        in_passage=max(share_found(wanted, passage.text) for passage in passages),
        in_sentence=max((share_found(wanted, line) for line in lines), default=0.0),
    )
