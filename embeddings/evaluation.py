"""How often a search finds the right passage: the real chunker, encoder, indexes and fusion, and no row."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import numpy as np

from embeddings.chunking import chunk
from embeddings.indexes.faiss_index import FaissIndex
from embeddings.indexes.fusion import Scored, fuse, weighing_of
from embeddings.indexes.hits import Mode, Question
from embeddings.indexes.host import find
from embeddings.indexes.lexical import LexicalIndex, Text
from embeddings.language import detect
from embeddings.texts import Kind

DEPTH = 10
"""How far down a passage still counts, for the mean reciprocal rank."""

Encode = Callable[[Sequence[str], Kind], Any]
"""Texts to vectors, (texts, dimensions), each of length one."""


class WrongLine(Exception):
    """A line of a file is not what it should be; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that is one document of one page."""

    id: str
    text: str
    number: int = 1
    headings: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the ids of the passages that answer it."""

    text: str
    gold: frozenset[str]


@dataclass(slots=True)
class Library:
    """Passages, cut and indexed in memory."""

    embedder: str
    vectors: FaissIndex
    words: LexicalIndex
    passages: list[str] = field(default_factory=list)
    """The passage of each chunk."""
    languages: list[str] = field(default_factory=list)
    halves: list[bytes] = field(default_factory=list)

    def rank(self, question: Question) -> list[str]:
        """The passages that are found, the best first, each by its best chunk."""
        vectors = [self.vectors] if question.vector is not None else []
        hits = find(vectors, [self.words], question, lambda chunks: {one: self.halves[one] for one in chunks})
        candidates = [Scored(hit.chunk, self.languages[hit.chunk], hit.vector, hit.lexical) for hit in hits]
        ranked = fuse(candidates, weighing_of(self.embedder))
        return list(dict.fromkeys(self.passages[chunk] for chunk, _ in ranked))


def read_passages(path: Path) -> list[Passage]:
    """Lines of {"id", "text"}. Raises WrongLine or OSError."""
    return [Passage(_text(data, "id", at), _text(data, "text", at)) for at, data in _lines(path)]


def read_questions(path: Path) -> list[Asked]:
    """Lines of {"question", "gold_passage_ids"}. Raises WrongLine or OSError."""
    asked = []
    for at, data in _lines(path):
        gold = data.get("gold_passage_ids")
        if not isinstance(gold, list) or not gold:
            raise WrongLine(f"{at}: gold_passage_ids must be a list of ids")
        asked.append(Asked(_text(data, "question", at), frozenset(map(str, gold))))
    return asked


def build(passages: Iterable[Passage], encode: Encode, *, embedder: str) -> Library:
    """The library of these passages."""
    texts: list[tuple[Passage, str, str]] = [
        (passage, detect(passage.text), piece.text) for passage in passages for piece in chunk([passage])
    ]
    found = encode([text for _, _, text in texts], "passage")
    halves = np.asarray(found, dtype="<f2")
    library = Library(embedder, FaissIndex(halves.shape[1]), LexicalIndex())
    library.vectors.add(UUID(int=0), np.arange(len(texts)), halves)
    by_language: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for at, (passage, language, text) in enumerate(texts):
        by_language[language].append((at, text))
        library.passages.append(passage.id)
        library.languages.append(language)
        library.halves.append(halves[at].tobytes())
    library.words.change(
        add=[
            Text(UUID(int=at), language, chunks) for at, (language, chunks) in enumerate(by_language.items())
        ]
    )
    return library


def evaluate(library: Library, asked: Sequence[Asked], encode: Encode) -> dict[str, Any]:
    """The counts, and the measures of each mode; those of hybrid are in front."""
    vectors = encode([one.text for one in asked], "query")
    modes = {mode: _measures(list(_ranks(library, asked, vectors, mode))) for mode in get_args(Mode)}
    return {
        **modes["hybrid"],
        "questions": len(asked),
        "passages": len(set(library.passages)),
        "chunks": len(library.passages),
        "embedder": library.embedder,
        "modes": modes,
    }


def _ranks(library: Library, asked: Sequence[Asked], vectors: Any, mode: Mode) -> Iterator[int | None]:
    """The place of the first right passage for each question, from 1; None beyond DEPTH."""
    for one, vector in zip(asked, vectors, strict=True):
        text = one.text if mode != "vector" else ""
        near = np.asarray(vector, np.float32) if mode != "lexical" else None
        found = library.rank(Question(text, near, library.embedder))[:DEPTH]
        yield next((at for at, passage in enumerate(found, start=1) if passage in one.gold), None)


def _measures(ranks: Sequence[int | None]) -> dict[str, float]:
    def share(most: int) -> float:
        return round(sum(rank is not None and rank <= most for rank in ranks) / len(ranks), 4)

    reciprocal = sum(1 / rank for rank in ranks if rank) / len(ranks)
    return {"recall_at_1": share(1), "recall_at_5": share(5), "mrr_at_10": round(reciprocal, 4)}


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The object of each line, and where it stands."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise WrongLine(f"{place}: not valid JSON ({error})") from error
        if not isinstance(data, dict):
            raise WrongLine(f"{place}: must be an object")
        yield place, data


def _text(data: Mapping[str, Any], name: str, place: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        raise WrongLine(f"{place}: {name} must be a text")
    return value
