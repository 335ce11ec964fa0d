"""How well the confidence in an answer is founded: questions with an answer among the documents, and without.

The passages are parted in two libraries, an article whole in one of them. Each question is asked of the one
that has its answer, and of the other one.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from embeddings.chunking import chunk
from embeddings.evaluation import Asked, Encode, Library, Passage, WrongLine, build
from embeddings.indexes.fusion import Scored, fuse, weighing_of
from embeddings.indexes.hits import Question
from embeddings.indexes.host import find
from embeddings.search import Passage as Found
from inference.grounding.confidence import ANSWERED_FROM, Fit, Signs, fit_of, signs_of
from inference.grounding.stage import PASSAGES

Numbers = npt.NDArray[np.float64]
FOLDS = 5
STEPS = 60
"""Of Newton's method, which needs about ten."""
RIDGE = 1e-3
BINS = 10
_NOWHERE = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Case:
    """One question, asked once. `group` is the article that it is about."""

    signs: Signs
    has_answer: bool
    group: str


def groups_of(path: Path) -> dict[str, str]:
    """The article of each passage by its id; a passage without one stands for itself."""
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {str(line["id"]): str(line.get("article", line["id"])) for line in lines}


def cases(
    passages: Sequence[Passage],
    asked: Sequence[Asked],
    groups: dict[str, str],
    encode: Encode,
    *,
    embedder: str,
) -> list[Case]:
    """Each question twice: with its answer among the documents, and without. Raises WrongLine."""
    order = {group: at for at, group in enumerate(dict.fromkeys(groups.values()))}
    if len(order) < 2 or not asked:
        raise WrongLine("There must be passages of two articles at least, and questions about them.")
    if missing := next((min(one.gold - groups.keys()) for one in asked if one.gold - groups.keys()), None):
        raise WrongLine(f"There is no passage {missing}, which a question names.")
    halves = [[one for one in passages if order[groups[one.id]] % 2 == half] for half in (0, 1)]
    libraries = [_Searched(half, encode, embedder) for half in halves]
    vectors = encode([one.text for one in asked], "query")
    found = []
    for one, vector in zip(asked, vectors, strict=True):
        group = groups[min(one.gold)]
        for at, library in enumerate(libraries):
            signs = signs_of(one.text, library.search(one.text, np.asarray(vector, np.float32)))
            found.append(Case(signs, order[group] % 2 == at, group))
    return found


class _Searched:
    """A library that gives its passages as a search does."""

    def __init__(self, passages: Sequence[Passage], encode: Encode, embedder: str) -> None:
        self._library: Library = build(passages, encode, embedder=embedder)
        self._texts = [piece.text for passage in passages for piece in chunk([passage])]

    def search(self, text: str, vector: Any) -> list[Found]:
        library = self._library
        question = Question(text, vector, library.embedder)
        hits = find([library.vectors], [library.words], question, self._halves)
        by_chunk = {hit.chunk: hit for hit in hits}
        scored = [Scored(hit.chunk, library.languages[hit.chunk], hit.vector, hit.lexical) for hit in hits]
        best = fuse(scored, weighing_of(library.embedder))[:PASSAGES]
        return [self._passage(at, score, by_chunk[at].vector, by_chunk[at].lexical) for at, score in best]

    def _halves(self, chunks: Iterable[int]) -> dict[int, bytes]:
        return {one: self._library.halves[one] for one in chunks}

    def _passage(self, at: int, score: float, vector: float | None, lexical: float | None) -> Found:
        text = self._texts[at]
        return Found(
            chunk=at,
            document=_NOWHERE,
            version=_NOWHERE,
            collection=_NOWHERE,
            title="",
            page=None,
            start=0,
            end=len(text),
            heading="",
            text=text,
            score=score,
            vector_score=vector,
            lexical_score=lexical,
            language=self._library.languages[at],
        )


def judge(found: Sequence[Case], *, embedder: str) -> dict[str, float]:
    """How good the confidence is that the site tells."""
    fit = fit_of(embedder)
    return measures(np.array([fit.probability(case.signs) for case in found]), _truth(found))


def judge_anew(found: Sequence[Case], *, by_words_alone: bool = False) -> tuple[Fit, dict[str, float]]:
    """Numbers fitted to these cases, and how good such are on articles that they were not fitted to."""
    signs, truth = _matrix(found), _truth(found)
    if by_words_alone:
        signs[:, 1] = 0.0
    groups = {group: at for at, group in enumerate(dict.fromkeys(case.group for case in found))}
    fold = np.array([groups[case.group] % FOLDS for case in found])
    guesses = np.zeros(len(found))
    for number in range(FOLDS):
        held_out = fold == number
        if held_out.any() and not held_out.all():
            guesses[held_out] = _sigmoid(signs[held_out] @ _weights(signs[~held_out], truth[~held_out]))
    return Fit(*map(float, _weights(signs, truth))), measures(guesses, truth)


def measures(guesses: Numbers, truth: Numbers) -> dict[str, float]:
    """`auc`: how often one with an answer is above one without; `ece`: the mean error of calibration."""
    said = guesses >= ANSWERED_FROM
    values = {
        "auc": _auc(guesses, truth),
        "accuracy": float((said == (truth == 1)).mean()),
        "answered_where_there_is_none": float(said[truth == 0].mean()),
        "not_answered_where_there_is_one": float((~said[truth == 1]).mean()),
        "brier": float(((guesses - truth) ** 2).mean()),
        "ece": _calibration_error(guesses, truth),
    }
    return {name: round(value, 4) for name, value in values.items()}


def _truth(found: Sequence[Case]) -> Numbers:
    return np.array([case.has_answer for case in found], dtype=np.float64)


def _matrix(found: Sequence[Case]) -> Numbers:
    rows = [(1.0, case.signs.similarity, case.signs.in_passage, case.signs.in_sentence) for case in found]
    return np.array(rows)


def _sigmoid(values: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float64)


def _weights(signs: Numbers, truth: Numbers) -> Numbers:
    """Logistic regression by Newton's method."""
    weights = np.zeros(signs.shape[1])
    for _ in range(STEPS):
        guess = _sigmoid(signs @ weights)
        slope = signs.T @ (truth - guess) - RIDGE * weights
        curve = (signs * (guess * (1 - guess))[:, None]).T @ signs + RIDGE * np.eye(signs.shape[1])
        weights = weights + np.linalg.solve(curve, slope)
    return weights


def _auc(guesses: Numbers, truth: Numbers) -> float:
    """The share of pairs in the right order; a tie is half a one."""
    values, place = np.unique(guesses, return_inverse=True)
    with_answer = np.bincount(place[truth == 1], minlength=len(values))
    without = np.bincount(place[truth == 0], minlength=len(values))
    below = np.cumsum(without) - without
    return float((with_answer * (below + without / 2)).sum() / (with_answer.sum() * without.sum()))


def _calibration_error(guesses: Numbers, truth: Numbers) -> float:
    bins = np.minimum((guesses * BINS).astype(int), BINS - 1)
    parts = [bins == number for number in range(BINS)]
    errors = (part.mean() * abs(guesses[part].mean() - truth[part].mean()) for part in parts if part.any())
    return float(sum(errors))
