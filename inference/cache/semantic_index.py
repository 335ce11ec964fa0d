"""Questions by their vectors: exact search with FAISS, within one partition at a time.

A partition is an opaque name for all that has to be equal beside the question: the model, the parameters, the
documents, the reader. Each has an index of its own, so no search ever meets another partition's entries.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_ENTRIES = 10_000
MOST_BYTES = 128 << 20
"""Of all entries: texts, values and vectors."""
MATCHES = 5

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A question, what is kept for it, and the time of `clock` at which that ends."""

    partition: str
    text: str
    value: str
    expires: float
    size: int


@dataclass(frozen=True, slots=True)
class Match:
    text: str
    value: str
    similarity: float


class SemanticIndex:
    """All partitions of one process, for any number of threads. The oldest entry makes room for a new one."""

    def __init__(
        self,
        *,
        most_entries: int = MOST_ENTRIES,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._clock = clock
        self._partitions: dict[str, _Partition] = {}
        self._by_age: dict[Entry, None] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, partition: str, vector: Vector, *, threshold: float) -> list[Match]:
        """The nearest questions of `partition` with at least this cosine, the nearest first."""
        with self._lock:
            here = self._partitions.get(partition)
            found = here.search(vector, threshold) if here else []
            for entry, _ in found:
                if entry.expires <= self._clock():
                    self._drop(entry)
            return [
                Match(entry.text, entry.value, cosine) for entry, cosine in found if entry in self._by_age
            ]

    def keep(self, partition: str, text: str, vector: Vector, value: str, *, ttl: float) -> None:
        """Keep `value` for `text`, in place of what was kept for the same text."""
        size = len(text.encode()) + len(value.encode()) + vector.nbytes
        if size > self._most_bytes:
            return
        entry = Entry(partition, text, value, self._clock() + ttl, size)
        with self._lock:
            here = self._partitions.setdefault(partition, _Partition(len(vector)))
            if (old := here.entry_of(text)) is not None:
                self._drop(old)
                here = self._partitions.setdefault(partition, here)
            here.add(entry, vector)
            self._by_age[entry] = None
            self._bytes += size
            self._make_room()

    def forget(self, prefix: str = "") -> int:
        """Drop the partitions whose names begin with `prefix`; how many entries they had."""
        with self._lock:
            gone = [entry for entry in self._by_age if entry.partition.startswith(prefix)]
            for entry in gone:
                del self._by_age[entry]
                self._bytes -= entry.size
                self._partitions.pop(entry.partition, None)
            return len(gone)

    def counts(self) -> dict[str, int]:
        """How much is kept, without what has ended."""
        with self._lock:
            self._drop_ended()
            return {
                "entries": len(self._by_age),
                "partitions": len(self._partitions),
                "bytes": self._bytes,
            }

    def _make_room(self) -> None:
        while len(self._by_age) > self._most_entries or self._bytes > self._most_bytes:
            self._drop(next(iter(self._by_age)))

    def _drop_ended(self) -> None:
        now = self._clock()
        for entry in [entry for entry in self._by_age if entry.expires <= now]:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        del self._by_age[entry]
        self._bytes -= entry.size
        here = self._partitions[entry.partition]
        here.remove(entry)
        if not here.entries:
            del self._partitions[entry.partition]


class _Partition:
    """A flat index and the entries in its order; taking one out moves the later ones up in both."""

    def __init__(self, dimensions: int) -> None:
        self.entries: list[Entry] = []
        self._index = _faiss().IndexFlatIP(dimensions)

    def search(self, vector: Vector, threshold: float) -> list[tuple[Entry, float]]:
        most = min(MATCHES, len(self.entries))
        cosines, places = self._index.search(vector[np.newaxis], most)
        pairs = zip(places[0], cosines[0], strict=True)
        return [(self.entries[place], float(cosine)) for place, cosine in pairs if cosine >= threshold]

    def entry_of(self, text: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.text == text), None)

    def add(self, entry: Entry, vector: Vector) -> None:
        self._index.add(vector[np.newaxis])
        self.entries.append(entry)

    def remove(self, entry: Entry) -> None:
        place = self.entries.index(entry)
        self._index.remove_ids(np.array([place], dtype=np.int64))
        del self.entries[place]


def _faiss() -> Any:
    """FAISS, imported with the first entry. One question is searched faster by one thread than by several."""
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss
