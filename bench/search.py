"""How long a search takes in a library of 10,000, 100,000 and 1,000,000 chunks, beside bare FAISS and
pgvector.

Run: python -m bench.search [--sizes 10000 100000] [--questions 200]. The libraries are built once, below
.bench/search/ (see _library.py); the largest takes some 20 minutes and 4 GB of disk.

`site` is the whole way of a search without the question's embedding: the rights, the HTTP call to the
indexes, both of them, the fusion, and the texts from the database (SQLite), as `took_ms` tells it. Bare
FAISS compares all vectors, 32 bits a number, with one thread; bare pgvector searches its HNSW graph. Both
give 50 ids and no text. Recall is the share of the ten nearest chunks that the site finds by vectors alone.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench._library import EMBEDDER, QUESTIONS, SEED, environment_of, folder_of, texts, vectors
from bench._processes import ROOT

SIZES = (10_000, 100_000, 1_000_000)
WITH_PGVECTOR = 100_000
"""Chunks up to which a graph is built for pgvector: two minutes."""
FOUND = 50
NEAREST = 10
WORDS_OF_A_QUESTION = 8
MODES = ("hybrid", "vector", "lexical")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.questions)))
        return
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    for size in options.sizes:
        show(size, measured(size, options.questions))


def measured(size: int, questions: int) -> dict[str, Any]:
    """The figures of one size, each part in a process of its own."""
    environment = {**os.environ, **environment_of(size)}
    if not (folder_of(size) / "built").exists():
        folder_of(size).mkdir(parents=True)
        build = [sys.executable, "-m", "bench._library", str(size)]
        subprocess.run(build, cwd=ROOT, env=environment, check=True)
    command = [sys.executable, "-m", "bench.search", "--measure", str(size), "--questions", str(questions)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(ended.stdout))


def show(size: int, found: dict[str, Any]) -> None:
    print(f"{size:,} chunks: recall@10 {found['recall']:.3f}, opened in {found['opened']:.1f} s", flush=True)
    for name, (middle, slow) in found["ms"].items():
        print(f"  {name:<28} p50 {middle:7.1f} ms   p95 {slow:7.1f} ms", flush=True)


def measure(size: int, count: int) -> dict[str, Any]:
    """In a process with the settings of the library."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    import django

    django.setup()
    asked = list(texts(count, words=WORDS_OF_A_QUESTION, seed=SEED + 1))
    wanted = vectors(count, seed=SEED + 1).astype(np.float32)
    ms, nearest, opened = through_the_site(asked, wanted)
    chunks, held = every_vector(size)
    bare, exact = bare_faiss(held, wanted)
    hits = sum(len(set(chunks[one]) & set(other)) for one, other in zip(exact, nearest, strict=True))
    figures = {f"site, {mode}": times for mode, times in ms.items()}
    figures["bare FAISS, all compared"] = bare
    if size <= WITH_PGVECTOR:
        figures["bare pgvector, HNSW"] = bare_pgvector(held, wanted)
    recall = hits / (NEAREST * count)
    return {"recall": recall, "opened": opened, "ms": {name: spread(one) for name, one in figures.items()}}


class KnownQuestions:
    """An encoder that has computed all vectors before."""

    name, device, dtype, window = EMBEDDER, "cpu", "float32", 512

    def __init__(self, asked: Sequence[str], wanted: Any) -> None:
        self.dimensions = wanted.shape[1]
        self._vectors = dict(zip(asked, wanted, strict=True))

    def lengths(self, asked: Sequence[str], kind: str) -> list[int]:
        return [WORDS_OF_A_QUESTION for _ in asked]

    def encode(self, asked: Sequence[str], kind: str) -> Any:
        return np.stack([self._vectors[text] for text in asked])


def through_the_site(
    asked: Sequence[str], wanted: Any
) -> tuple[dict[str, list[float]], list[list[int]], float]:
    """Milliseconds by mode, the ten nearest chunks of each question, and seconds until all was open."""
    from django.conf import settings

    from accounts.models import User
    from embeddings.at_hand import served
    from embeddings.embedder import Embedder
    from embeddings.search import search

    user = User.objects.get()

    async def run() -> tuple[dict[str, list[float]], list[list[int]], float]:
        began = time.perf_counter()
        is_open = False
        while not is_open:  # Each one waits for a while.
            is_open = (await search(user, asked[0])).is_complete
        opened = time.perf_counter() - began
        for text in asked[:20]:
            await search(user, text)
        ms = {mode: [(await search(user, one, mode=mode)).took_ms for one in asked] for mode in MODES}
        nearest = [
            [passage.chunk for passage in (await search(user, one, mode="vector", top_k=NEAREST)).passages]
            for one in asked
        ]
        return ms, nearest, opened

    with served(Embedder(EMBEDDER, lambda: KnownQuestions(asked, wanted))) as url:
        settings.MODEL_URL = url
        return asyncio.run(run())


def every_vector(size: int) -> tuple[Any, Any]:
    """All chunks and their vectors, 16 bits a number."""
    from embeddings.models import Chunk

    rows = Chunk.objects.order_by("pk").values_list("pk", "vector").iterator(chunk_size=10_000)
    chunks, held = np.empty(size, np.int64), np.empty((size, vectors(1, seed=0).shape[1]), np.float16)
    for at, (chunk, vector) in enumerate(rows):
        chunks[at], held[at] = chunk, np.frombuffer(bytes(vector), "<f2")
    return chunks, held


def bare_faiss(held: Any, wanted: Any) -> tuple[list[float], Any]:
    """Milliseconds of each question, and the places of the ten nearest vectors."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(held.shape[1])
    for start in range(0, len(held), 100_000):
        index.add(held[start : start + 100_000].astype(np.float32))
    _, exact = index.search(wanted, NEAREST)
    return timed(lambda vector: index.search(vector[np.newaxis], FOUND), wanted), exact


def bare_pgvector(held: Any, wanted: Any) -> list[float]:
    import psycopg

    from llmsite.testing.servers import start_postgres

    with tempfile.TemporaryDirectory() as folder:
        server = start_postgres(Path(folder))
        try:
            _, _, place = server.url.partition(":5432/")
            socket, _, name = place.rpartition("/")
            with psycopg.connect(host=f"/{socket.strip('/')}", user="postgres", dbname=name) as connection:
                return asked_of_pgvector(connection, held, wanted)
        finally:
            server.stop()


def asked_of_pgvector(connection: Any, held: Any, wanted: Any) -> list[float]:
    connection.execute("CREATE EXTENSION vector")
    connection.execute(f"CREATE TABLE chunk (id bigint, vector halfvec({held.shape[1]}))")
    with connection.cursor() as cursor, cursor.copy("COPY chunk FROM STDIN") as rows:
        for at, vector in enumerate(held):
            rows.write_row((at, literal(vector)))
    connection.execute("SET maintenance_work_mem = '1GB'")
    connection.execute("CREATE INDEX ON chunk USING hnsw (vector halfvec_ip_ops)")
    connection.execute("SET hnsw.ef_search = 100")
    nearest = f"SELECT id FROM chunk ORDER BY vector <#> %s::halfvec LIMIT {FOUND}"
    return timed(lambda vector: connection.execute(nearest, [literal(vector)]).fetchall(), wanted)


def literal(vector: Any) -> str:
    return f"[{','.join(map(str, vector.tolist()))}]"


def timed(ask: Callable[[Any], object], wanted: Any) -> list[float]:
    """Milliseconds of each question, after a few that do not count."""
    for vector in wanted[:10]:
        ask(vector)
    found = []
    for vector in wanted:
        began = time.perf_counter()
        ask(vector)
        found.append((time.perf_counter() - began) * 1000)
    return found


def spread(ms: Sequence[float]) -> tuple[float, float]:
    return statistics.median(ms), sorted(ms)[int(len(ms) * 0.95)]


if __name__ == "__main__":
    main()
