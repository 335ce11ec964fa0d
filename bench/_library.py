"""A library of any size for benchmarks: chunks with texts and vectors, seeded, in a database of its own.

Vectors are those of real English (Python's own documentation), two of them mixed and shaken: real ones lie in
clouds, which is what makes searching them hard or easy. Words come by Zipf's law, the frequent ones real.
Built once below .bench/; run by bench.search in a process with the settings of that database.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench._processes import ROOT

FOLDER = ROOT / ".bench" / "search"
SEED = 20260101
WORDS = 60
VOCABULARY = 60_000
CHUNKS_OF_A_DOCUMENT = 100
AT_ONCE = 10_000
NOISE = 0.6
QUESTIONS = 200
EMBEDDER = "bench"


def folder_of(size: int) -> Path:
    return FOLDER / str(size)


def environment_of(size: int) -> dict[str, str]:
    folder = folder_of(size)
    return {
        "ENV_FILE": "",
        "SECRET_KEY": "bench-" + "0123456789abcdefghijklmnopqrstuvwxyz",
        "DATABASE_URL": f"sqlite:///{folder / 'library.sqlite3'}",
        "REDIS_URL": "",
        "MEDIA_ROOT": str(folder),
        "INDEX_ROOT": str(folder / "indexes"),
        "LOG_LEVEL": "warning",
    }


def paragraphs() -> list[str]:
    from pydoc_data.topics import topics

    parts = (part.strip() for text in topics.values() for part in re.split(r"\n\s*\n", text))
    return sorted({" ".join(part.split())[:600] for part in parts if len(part) > 200}, key=len)


def real_vectors() -> Any:
    """The vectors of real paragraphs, kept after the first time."""
    path = FOLDER / "real.npy"
    if not path.exists():
        from embeddings.encoder import load_encoder

        encoder = load_encoder("all-MiniLM-L6-v2", device="cpu")
        texts = paragraphs()
        parts = [encoder.encode(texts[at : at + 32], "passage") for at in range(0, len(texts), 32)]
        FOLDER.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(parts))
    return np.load(path)


def vectors(count: int, *, seed: int) -> Any:
    """(count, dimensions) of length one, 16 bits a number."""
    real, random = real_vectors(), np.random.default_rng(seed)
    share = random.random((count, 1), dtype=np.float32)
    mixed = share * real[random.integers(0, len(real), count)]
    mixed += (1 - share) * real[random.integers(0, len(real), count)]
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    mixed += random.standard_normal(mixed.shape, dtype=np.float32) * (NOISE / np.sqrt(mixed.shape[1]))
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float16)


def vocabulary() -> list[str]:
    counted = Counter(re.findall(r"[a-z]{1,20}", " ".join(paragraphs()).lower()))
    real = [word for word, _ in counted.most_common()]
    letters = "bcdfghjklmnprstvz"
    made = (
        f"{letters[at % 17]}a{letters[at // 17 % 17]}o{letters[at // 289 % 17]}i{letters[at // 4913 % 17]}"
        for at in range(VOCABULARY)
    )
    return [*real, *made][:VOCABULARY]


def texts(count: int, *, words: int, seed: int) -> Iterator[str]:
    known = np.array(vocabulary())
    shares = 1 / (np.arange(len(known)) + 2.7)
    edges = np.cumsum(shares / shares.sum())
    random = np.random.default_rng(seed)
    for start in range(0, count, AT_ONCE):
        some = np.searchsorted(edges, random.random((min(AT_ONCE, count - start), words)))
        for row in np.minimum(some, len(known) - 1):
            yield " ".join(known[row])


def build(size: int) -> None:
    """In a process with the site's settings: the rows and the indexes of `size` chunks."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from embeddings.indexes.host import Host

    call_command("migrate", verbosity=0)
    fill(size)
    host = Host(settings.INDEX_ROOT)
    host.sync()
    host.close()
    (folder_of(size) / "built").touch()


def fill(size: int) -> None:
    from django.db import connection, transaction

    from accounts.models import User
    from embeddings.indexes.rows import index_for
    from embeddings.models import Collection

    user = User.objects.create(username="reader", password="!")
    collection = Collection.objects.create(owner=user, name="library")
    index = index_for(collection, embedder=EMBEDDER, dimensions=384, chunker="1")
    said = texts(size, words=WORDS, seed=SEED)
    insert = (
        "INSERT INTO embeddings_chunk"
        ' (index_id, version_id, ordinal, page, start, "end", heading, text, vector)'
        " VALUES (%s, %s, %s, 1, 0, %s, '', %s, %s)"
    )
    for start in range(0, size, AT_ONCE):
        count = min(AT_ONCE, size - start)
        made = vectors(count, seed=SEED + start)
        versions = documents(collection, (count + CHUNKS_OF_A_DOCUMENT - 1) // CHUNKS_OF_A_DOCUMENT)
        rows = []
        for at in range(count):
            text = next(said)
            version = versions[at // CHUNKS_OF_A_DOCUMENT]
            rows.append((index.pk, version, at % CHUNKS_OF_A_DOCUMENT, len(text), text, made[at].tobytes()))
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(insert, rows)
        print(f"\r{start + count} chunks", end="", file=sys.stderr)
    Collection.objects.all().bump()


def documents(collection: Any, count: int) -> list[str]:
    """The ids of the versions that `count` new documents show, as their column has them."""
    from django.db import transaction

    from embeddings.models import Document, DocumentVersion, Status, Step

    with transaction.atomic():
        new = [Document(collection=collection, name=f"{os.urandom(8).hex()}.txt") for _ in range(count)]
        Document.objects.bulk_create(new)
        shown = [
            DocumentVersion(
                document=document,
                number=1,
                sha256="",
                size=1,
                media_type="text/plain",
                file="",
                status=Status.READY,
                step=Step.COMMITTED,
                language="en",
            )
            for document in new
        ]
        DocumentVersion.objects.bulk_create(shown)
        for document, version in zip(new, shown, strict=True):
            document.current = version
        Document.objects.bulk_update(new, ["current"])
    return [version.pk.hex for version in shown]


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    build(int(sys.argv[1]))
