"""Vectors in memory, searched by FAISS; a snapshot on disk saves reading them from the database again.

Up to EXACT of them each search compares all: with 16 bits a number that takes 4 ms for 100,000 on one core,
half of what 32 bits take, and finds the same. Beyond, they lie in cells, and a search looks into the
nearest ones. How many it takes for the wanted recall depends on the texts, so it is measured on the vectors
themselves whenever the cells are made.
"""

import hashlib
import json
import math
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import structlog

from embeddings.indexes.vectors import HalfVectors, Ids, Match, Vector, ranked

log = structlog.get_logger(__name__)

EXACT = 250_000
"""Vectors that are all compared: 10 ms."""
GROWTH = 4
"""The cells are made anew when there are so many times more vectors than at the last time."""
RECALL = 0.97
PROBES = 64
NEIGHBOURS = 10
SAMPLE_OF_A_CELL = 40
SNAPSHOT_SHARE = 10
"""A snapshot is due when one of so many chunks has come or gone since the last."""

ADDED_AT_ONCE = 1 << 16

FORMAT = 1
VECTORS, MANIFEST = "vectors", "manifest.json"


class FaissIndex:
    """See VectorIndex. Without a `folder` it lives in memory alone."""

    def __init__(self, dimensions: int, folder: Path | None = None, *, exact: int = EXACT) -> None:
        self.dimensions = dimensions
        self._folder = folder / VECTORS if folder else None
        self._exact = exact
        self._lock = threading.Lock()
        self._chunks: dict[UUID, Ids] = {}
        self._index = _flat(dimensions)
        self._cells_for = 0
        self._changed = 0
        self._has_lost = False
        self._snapshot = 0
        if self._folder is not None:
            self._load(self._folder)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def is_exact(self) -> bool:
        return not self._cells_for

    def held(self) -> Mapping[UUID, int]:
        with self._lock:
            return {version: int(chunks[0]) for version, chunks in self._chunks.items()}

    def add(self, version: UUID, chunks: Ids, vectors: HalfVectors) -> None:
        if not len(chunks):
            return
        with self._lock:
            self._drop([version])
            self._index.add_with_ids(vectors.astype(np.float32), chunks)
            self._chunks[version] = chunks
            self._changed += len(chunks)
            is_due = len(self) > max(self._exact, self._cells_for * GROWTH)
        if is_due:
            self._make_cells()

    def remove(self, versions: Collection[UUID]) -> None:
        with self._lock:
            self._drop(versions)

    def search(self, vector: Vector, most: int) -> Sequence[Match]:
        with self._lock:
            _one_thread()
            scores, chunks = self._index.search(vector[np.newaxis], min(most, max(len(self), 1)))
        found = chunks[0] >= 0  # FAISS fills up with -1.
        return ranked(chunks[0][found], scores[0][found])

    def save(self) -> None:
        # What was deleted does not stay on the disk.
        if self._has_lost or (self._changed and self._changed * SNAPSHOT_SHARE >= len(self)):
            self._write()

    def close(self) -> None:
        if self._changed:
            self._write()

    def destroy(self) -> None:
        with self._lock:
            self._drop(list(self._chunks))
            self._changed = 0

    def _drop(self, versions: Collection[UUID]) -> None:
        gone = [self._chunks.pop(version) for version in versions if version in self._chunks]
        if gone:
            ids = np.concatenate(gone)
            self._index.remove_ids(ids)
            self._changed += len(ids)
            self._has_lost = True

    # Cells

    def _make_cells(self) -> None:
        """Move everything into cells; until they are ready, searches go on in what there was."""
        chunks, vectors = _contents(self._index)
        cells = _cells(self.dimensions, vectors)
        for start in range(0, len(chunks), ADDED_AT_ONCE):
            part = slice(start, start + ADDED_AT_ONCE)
            cells.add_with_ids(vectors[part].astype(np.float32), chunks[part])
        cells.nprobe = _probes(cells, vectors)
        log.info("cells_made", vectors=len(chunks), cells=cells.nlist, probes=cells.nprobe)
        with self._lock:
            self._index, self._cells_for = cells, len(chunks)
            self._changed += len(chunks)

    # The snapshot: two files that are never changed, and a manifest that names them and is replaced whole.

    def _write(self) -> None:
        if self._folder is None:
            return
        import faiss

        self._folder.mkdir(parents=True, exist_ok=True)
        number = self._snapshot + 1
        vectors, versions = (self._folder / f"{name}-{number}" for name in ("vectors", "versions"))
        faiss.write_index(self._index, str(vectors))
        with versions.open("wb") as file:
            np.savez(
                file,
                versions=np.array([version.bytes for version in self._chunks], dtype="S16"),
                counts=np.array([len(chunks) for chunks in self._chunks.values()], dtype=np.int64),
                chunks=np.concatenate([*self._chunks.values(), np.empty(0, np.int64)]),
            )
        manifest = {
            "format": FORMAT,
            "dimensions": self.dimensions,
            "number": number,
            "cells_for": self._cells_for,
            "files": {path.name: _digest(path) for path in (vectors, versions)},
        }
        _replace(self._folder / MANIFEST, json.dumps(manifest))
        self._snapshot, self._changed, self._has_lost = number, 0, False
        _remove_others(self._folder, {MANIFEST, vectors.name, versions.name})

    def _load(self, folder: Path) -> None:
        """What the snapshot has; nothing where it is not whole: the database will tell all of it again."""
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            self._read(folder, manifest)
        except FileNotFoundError:
            return
        except Exception as error:  # FAISS and NumPy raise many kinds for a damaged file.
            log.warning("snapshot_damaged", folder=str(folder), error=repr(error))
            self._index, self._chunks, self._cells_for = _flat(self.dimensions), {}, 0

    def _read(self, folder: Path, manifest: dict[str, Any]) -> None:
        import faiss

        number = int(manifest["number"])
        vectors, versions = (folder / f"{name}-{number}" for name in ("vectors", "versions"))
        if (manifest["format"], manifest["dimensions"]) != (FORMAT, self.dimensions):
            raise ValueError("of another format")
        if any(_digest(path) != manifest["files"][path.name] for path in (vectors, versions)):
            raise ValueError("the checksum is another")
        index = faiss.read_index(str(vectors))
        with np.load(versions) as held:
            parts = np.split(held["chunks"], np.cumsum(held["counts"])[:-1])
            names = held["versions"].tolist()
        # NumPy cuts zeros off the end of such a text.
        chunks = {UUID(bytes=name.ljust(16, b"\0")): ids for name, ids in zip(names, parts, strict=False)}
        if index.ntotal != sum(map(len, chunks.values())):
            raise ValueError("it has another number of vectors than of chunks")
        self._index, self._chunks = index, chunks
        self._snapshot, self._cells_for = number, int(manifest["cells_for"])


def _flat(dimensions: int) -> Any:
    faiss = _one_thread()
    vectors = faiss.IndexScalarQuantizer(
        dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    return faiss.IndexIDMap2(vectors)


def _cells(dimensions: int, vectors: HalfVectors) -> Any:
    """Empty cells, laid out for `vectors`."""
    faiss = _one_thread()
    count = math.isqrt(len(vectors))
    cells = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimensions),
        dimensions,
        count,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,  # The numbers are those of the vectors, not of their distance to the cell.
    )
    cells.train(_sample(vectors, count * SAMPLE_OF_A_CELL))
    return cells


def _probes(cells: Any, vectors: HalfVectors) -> int:
    """How many cells a search looks into: the fewest of a doubling row that reach RECALL."""
    questions = _sample(vectors, PROBES)
    # The nearest one is the question itself, which is always found.
    cells.nprobe = cells.nlist
    _, exact = cells.search(questions, NEIGHBOURS + 1)
    probes = max(1, cells.nlist // 64)
    while probes < cells.nlist:
        cells.nprobe = probes
        _, found = cells.search(questions, NEIGHBOURS + 1)
        hits = sum(len(np.intersect1d(one[1:], other)) for one, other in zip(exact, found, strict=True))
        if hits >= RECALL * NEIGHBOURS * len(questions):
            break
        probes *= 2
    return min(probes, int(cells.nlist))


def _sample(vectors: HalfVectors, most: int) -> Any:
    chosen = np.random.default_rng(0).permutation(len(vectors))[:most]
    return vectors[np.sort(chosen)].astype(np.float32)


def _contents(index: Any) -> tuple[Ids, HalfVectors]:
    """All chunks and their vectors, which both kinds of index keep as they were given, 16 bits a number."""
    import faiss

    if isinstance(index, faiss.IndexIDMap2):
        flat: Any = faiss.downcast_index(index.index)
        codes = faiss.vector_to_array(flat.codes)
        return faiss.vector_to_array(index.id_map), codes.view("<f2").reshape(-1, index.d)
    lists = index.invlists
    sizes = [lists.list_size(cell) for cell in range(index.nlist)]
    chunks = [faiss.rev_swig_ptr(lists.get_ids(cell), size).copy() for cell, size in enumerate(sizes) if size]
    parts = [
        faiss.rev_swig_ptr(lists.get_codes(cell), size * index.code_size).copy()
        for cell, size in enumerate(sizes)
        if size
    ]
    return np.concatenate(chunks), np.concatenate(parts).view("<f2").reshape(-1, index.d)


def _one_thread() -> Any:
    """FAISS, imported when it is first needed; one thread a search leaves the other cores to others."""
    import faiss

    faiss.omp_set_num_threads(1)  # It counts for the calling thread.
    return faiss


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)


def _remove_others(folder: Path, names: Collection[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink(missing_ok=True)
