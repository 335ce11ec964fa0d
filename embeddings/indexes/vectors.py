"""What an index of vectors does, whatever keeps it."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
HalfVectors = npt.NDArray[np.float16]
"""(chunks, dimensions), each of length one."""
Vector = npt.NDArray[np.float32]


class Match(NamedTuple):
    """A chunk that was found, and how near it is."""

    chunk: int
    score: float


class VectorIndex(Protocol):
    """The vectors of one SearchIndex, for any number of threads.

    One at a time may change it. It grows and shrinks by versions of documents. A version is known by the id
    of its first chunk too: one that was cut anew has other chunks.
    """

    def held(self) -> Mapping[UUID, int]:
        """The versions it has, each with the id of its first chunk."""

    def add(self, version: UUID, chunks: Ids, vectors: HalfVectors) -> None:
        """Take in all chunks of a version, in their order, in place of what it has of that version."""

    def remove(self, versions: Collection[UUID]) -> None:
        """Drop versions; those that it does not have are no error."""

    def search(self, vector: Vector, most: int) -> Sequence[Match]:
        """The `most` nearest chunks by cosine, the nearest first; of equal ones the older first."""

    def save(self) -> None:
        """Keep it beyond the process, where that is worth its time."""

    def close(self) -> None:
        """Keep it, and let go of what it holds."""

    def destroy(self) -> None:
        """Drop all that is kept of it, wherever that is; its folder is its owner's to remove."""


def ranked(chunks: Sequence[int], scores: Sequence[float]) -> list[Match]:
    """Matches in an order that is the same each time."""
    found = [Match(int(chunk), float(score)) for chunk, score in zip(chunks, scores, strict=True)]
    return sorted(found, key=lambda match: (-match.score, match.chunk))
