"""What a search in the indexes takes and gives."""

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from embeddings.indexes.vectors import Vector

Mode = Literal["hybrid", "vector", "lexical"]


class Hit(NamedTuple):
    """A chunk that may answer: its cosine with the question and its BM25, from 0 to 1, where known."""

    chunk: int
    vector: float | None
    lexical: float | None


class Question(NamedTuple):
    """`text` is looked for by its words, unless it is empty; `vector`, made by `embedder`, by its meaning."""

    text: str
    vector: "Vector | None" = None
    embedder: str = ""
