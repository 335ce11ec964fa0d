"""All indexes of one process: opened when they are asked for, and brought up to what the database says.

Nothing is pushed into an index. Whoever changed documents says so, or a search names a newer version of a
collection than the index has seen; then it compares what it holds with the rows, and takes in and drops the
difference. So no order of crashes leaves an index wrong for long, and a lost file costs only time.
"""

import fcntl
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO
from uuid import UUID

import numpy as np
import structlog
from django.db import Error

from embeddings.indexes import rows
from embeddings.indexes.faiss_index import FaissIndex
from embeddings.indexes.hits import Hit, Question
from embeddings.indexes.lexical import LexicalIndex, Text
from embeddings.indexes.pgvector_index import PgVectorIndex, has_pgvector, sweep
from embeddings.indexes.rows import Target
from embeddings.indexes.vectors import Match, Vector, VectorIndex
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import DiskFull

log = structlog.get_logger(__name__)

VectorsOf = Callable[[list[int]], Mapping[int, bytes]]
"""The vectors of those of these chunks that may be compared, as their rows keep them."""
NewVectors = Callable[[Target, Path | None], VectorIndex]

CANDIDATES = 50
"""Chunks that each of the two indexes names, at least."""
MOST_OPEN = 1000
"""Beyond it those are closed that nobody asks just now."""
LITTLE_SPACE = 64 << 20
"""Bytes. Where less is free, what a library fails at is taken to have failed for that."""


class Opened:
    """The two indexes of one SearchIndex."""

    def __init__(self, target: Target, vectors: VectorIndex, words: LexicalIndex) -> None:
        self.target = target
        self.vectors, self.words = vectors, words
        self.seen = 0
        """The version of the collection whose documents it holds; 0 before the first look."""
        self.changing = threading.Lock()

    def sync(self, version: int) -> int:
        """Take in and drop what has changed; how many versions that were. Only while `changing` is held.

        `version` is that of the collection, read before its rows are.
        """
        wanted = rows.versions_of(self.target.index)
        changed = self._sync_vectors(wanted) + self._sync_words(wanted)
        self.seen = version
        return changed

    def _sync_vectors(self, wanted: dict[UUID, int]) -> int:
        missing, gone = _difference(wanted, dict(self.vectors.held()))
        if gone:
            self.vectors.remove(gone)
        for version in missing:
            self._add_vectors(version)
        # Also without a difference: the last time it may have failed after the change.
        self.vectors.save()
        return len(missing) + len(gone)

    def _add_vectors(self, version: UUID) -> None:
        found = list(rows.chunks_of(self.target.index, version))
        if not found:  # It went meanwhile.
            return
        chunks = np.array([row.chunk for row in found], dtype=np.int64)
        vectors = np.frombuffer(b"".join(row.vector for row in found), dtype="<f2")
        self.vectors.add(version, chunks, vectors.reshape(len(found), -1))

    def _sync_words(self, wanted: dict[UUID, int]) -> int:
        missing, gone = _difference(wanted, dict(self.words.held()))
        if missing or gone:
            languages = rows.languages_of(missing)
            texts = (
                Text(version, languages.get(version, ""), self._texts_of(version)) for version in missing
            )
            self.words.change(add=texts, remove=gone)
        return len(missing) + len(gone)

    def _texts_of(self, version: UUID) -> Iterator[tuple[int, str]]:
        return ((row.chunk, row.text) for row in rows.chunks_of(self.target.index, version))


class Host:
    """All indexes of one process, for any number of threads. Below `root` they outlive it.

    A folder is for one process at a time: another one keeps its indexes in memory.
    """

    def __init__(self, root: Path | None, *, vectors: NewVectors | None = None) -> None:
        self._new_vectors = vectors or new_vectors
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._opened: OrderedDict[int, Opened] = OrderedDict()
        """That which nobody has asked for longest comes first."""
        self._asked: Counter[int] = Counter()
        self._hold = _hold(root)
        self._root = root if self._hold else None

    def sync(self, collections: Sequence[UUID] | None = None) -> int:
        """Bring the indexes of these collections, or of all, up to the rows; how many versions changed.

        Raises DiskFull.
        """
        targets = rows.targets(collections)
        changed = sum(self._change(target) for target in targets)
        self._forget_others(targets, collections)
        return changed

    def is_behind(self, targets: Sequence[Target]) -> bool:
        """Whether an index has not seen its collection as it is."""
        with self._lock:
            opened = [(target, self._opened.get(target.index)) for target in targets]
        return any((index.seen if index else 0) < target.version for target, index in opened)

    def refresh(self, targets: Sequence[Target]) -> None:
        """Bring those of these indexes that are behind up to the rows. Raises DiskFull."""
        with self.asking(targets):
            for target in targets:
                if self.is_behind([target]):
                    self._change(target)

    @contextmanager
    def asking(self, targets: Sequence[Target]) -> Iterator[None]:
        """Within it none of these indexes is closed to make room for others, however many they are."""
        asked = [target.index for target in targets]
        with self._lock:
            self._asked.update(asked)
            for index in asked:
                if index in self._opened:
                    self._opened.move_to_end(index)
        try:
            yield
        finally:
            with self._lock:
                self._asked = self._asked - Counter(asked)

    def search(self, targets: Sequence[Target], question: Question) -> list[Hit]:
        """What those of these indexes name that are open. It reads no file, and only rows of single chunks.

        One whose vectors another encoder made is asked for the words alone.
        """
        with self._lock:
            opened = [self._opened[one.index] for one in targets if one.index in self._opened]
        near = [index for index in opened if index.target.embedder == question.embedder]
        vectors_of = partial(rows.vectors_of, indexes=[index.target.index for index in near])
        vectors, words = [index.vectors for index in near], [index.words for index in opened]
        return find(vectors, words, question, vectors_of)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return {"open": len(self._opened)}

    def close(self) -> None:
        """Keep what is worth keeping, and let go of the folder."""
        with self._lock:
            for opened in self._opened.values():
                opened.vectors.close()
            self._opened.clear()
        if self._hold:
            self._hold.close()

    def _change(self, target: Target) -> int:
        with self.asking([target]):
            try:
                return self._sync(target)
            except (Error, DiskFull):  # Neither is for a fault of the files.
                raise
            except Exception as error:  # FAISS and tantivy raise many kinds where a file is lost.
                if self._root is None:
                    raise
                log.warning("index_opened_again", index=target.index, error=repr(error))
            # Opening it, each file is looked at, and what is damaged is made again.
            with self._lock:
                self._opened.pop(target.index, None)
            return self._sync(target)

    def _sync(self, target: Target) -> int:
        opened = self._open(target)
        with opened.changing, _telling_when_full(self._root):
            return opened.sync(target.version)

    def _open(self, target: Target) -> Opened:
        with self._opening:
            opened = self._opened.get(target.index)
            if opened is None:
                folder = self._folder(target)
                opened = Opened(target, self._new_vectors(target, folder), LexicalIndex(folder))
                with self._lock:
                    self._opened[target.index] = opened
        self._close_surplus()
        return opened

    def _close_surplus(self) -> None:
        with self._lock:
            surplus = max(len(self._opened) - MOST_OPEN, 0)
            idle = (index for index in self._opened if index not in self._asked)
            closed = [self._opened.pop(index) for index in list(islice(idle, surplus))]
        for opened in closed:
            opened.vectors.close()

    def _folder(self, target: Target) -> Path | None:
        return self._root / str(target.collection) / str(target.index) if self._root else None

    def _forget_others(self, targets: Sequence[Target], collections: Sequence[UUID] | None) -> None:
        """Drop the indexes of these collections that have no row any more."""
        kept = {target.index for target in targets}
        with self._lock:
            gone = [
                opened.target
                for index, opened in self._opened.items()
                if index not in kept and (collections is None or opened.target.collection in collections)
            ]
            for target in gone:
                self._opened.pop(target.index).vectors.destroy()
        for folder in self._folders(collections):
            if not folder.name.isdecimal() or int(folder.name) not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        if has_pgvector():
            sweep()

    def _folders(self, collections: Sequence[UUID] | None) -> list[Path]:
        if self._root is None:
            return []
        names = "*" if collections is None else None
        parents = self._root.glob("*") if names else (self._root / str(pk) for pk in collections or ())
        return [folder for parent in parents if parent.is_dir() for folder in parent.iterdir()]


def find(
    vectors: Sequence[VectorIndex],
    words: Sequence[LexicalIndex],
    question: Question,
    vectors_of: VectorsOf,
    *,
    most: int = CANDIDATES,
) -> list[Hit]:
    """The candidates of both kinds of index, those of the vectors first.

    A chunk that only its words have named gets its cosine too: `vectors_of` looks its vector up.
    """
    by_words = _best([index.search(question.text, most) for index in words] if question.text else [], most)
    if question.vector is None:
        return [Hit(chunk, None, score) for chunk, score in by_words.items()]
    by_vector = _best([index.search(question.vector, most) for index in vectors], most)
    if vectors:
        others = vectors_of([chunk for chunk in by_words if chunk not in by_vector])
        by_vector |= {chunk: _cosine(vector, question.vector) for chunk, vector in others.items()}
    chunks = dict.fromkeys([*by_vector, *by_words])
    return [Hit(chunk, by_vector.get(chunk), by_words.get(chunk)) for chunk in chunks]


def _cosine(vector: bytes, other: Vector) -> float:
    found = np.frombuffer(vector, "<f2").astype(np.float32)
    return _clipped(float(found @ other)) if len(found) == len(other) else 0.0


def _clipped(score: float) -> float:
    return min(max(score, 0.0), 1.0)


def _best(found: Sequence[Sequence[Match]], most: int) -> dict[int, float]:
    """The best matches of several indexes, by chunk, the best first."""
    every = sorted((match for matches in found for match in matches), key=lambda one: (-one.score, one.chunk))
    return {match.chunk: _clipped(match.score) for match in every[:most]}


def new_vectors(target: Target, folder: Path | None) -> VectorIndex:
    """In PostgreSQL where it has pgvector, else FAISS."""
    if has_pgvector():
        return PgVectorIndex(target.index, target.dimensions)
    return FaissIndex(target.dimensions, folder)


def _difference(wanted: dict[UUID, int], held: Mapping[UUID, int]) -> tuple[list[UUID], list[UUID]]:
    """The versions to be taken in, and those to be dropped."""
    missing = [version for version, first in wanted.items() if held.get(version) != first]
    return missing, [version for version in held if version not in wanted]


@contextmanager
def _telling_when_full(folder: Path | None) -> Iterator[None]:
    """Raises DiskFull where the block fails for want of space."""
    try:
        with telling_when_full():
            yield
    except (RuntimeError, ValueError) as error:
        # FAISS and tantivy raise these, with words of their own for a full disk, or none.
        if folder and shutil.disk_usage(folder).free < LITTLE_SPACE:
            raise DiskFull from error
        raise


def _hold(root: Path | None) -> IO[str] | None:
    """The lock of the folder while it is open; None without a folder, or where another process has it."""
    if root is None:
        return None
    root.mkdir(parents=True, exist_ok=True)
    lock = (root / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        log.warning("indexes_in_memory", folder=str(root), reason="another process has the folder")
        lock.close()
        return None
    return lock
