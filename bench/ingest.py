"""Pages a second from a PDF to a document that is searched, beside the bare libraries on the same pages.

Run: python -m bench.ingest [--pages 60] [--file PATH] [--repeat 3]. The site's way is `manage.py ingest` on a
database of its own: the upload's checks, the parser's child, chunks, vectors, both indexes, and the rows of
all of them. Bare is pypdfium2's text, sentence-transformers in batches of 32, and FAISS, in one process and
without a database. The encoder is loaded before either begins.
"""

import argparse
import os
import statistics
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench._library import paragraphs
from llmsite.core.devices import SLEEPING_THREADS

LINES = 46
"""On a page."""
COLUMNS = 84


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pages", type=int, default=60, help="of the PDF that is made where none is named")
    parser.add_argument("--file", type=Path, help="a PDF of your own")
    parser.add_argument("--repeat", type=int, default=3, help="how often each figure is measured (median)")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as name, site(Path(name)):
        path = options.file or made(Path(name) / "made.pdf", options.pages)
        for words, value in rates(path, options.repeat):
            print(f"{words:<52} {value}", flush=True)


@contextmanager
def site(folder: Path) -> Iterator[None]:
    """Django on a new database, media folder and index folder, with one user."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="llmsite.settings",
        SECRET_KEY="bench-" + "0123456789abcdefghijklmnopqrstuvwxyz",
        LOG_LEVEL="error",
        # As serve_model has it beside an engine with threads of its own.
        **SLEEPING_THREADS,
        ENV_FILE="",
        REDIS_URL="",
        DATABASE_URL=f"sqlite:///{folder / 'bench.sqlite3'}",
        MEDIA_ROOT=str(folder / "media"),
        INDEX_ROOT=str(folder / "indexes"),
    )
    import django

    django.setup()
    from django.core.management import call_command

    from accounts.models import User

    call_command("migrate", verbosity=0)
    User.objects.create(username="bench", password="!")
    yield


def made(path: Path, pages: int) -> Path:
    """A PDF whose pages are full of paragraphs of Python's documentation."""
    from embeddings.tests.parsing.files import pdf

    every = paragraphs()
    # Every so many, because they come sorted by their length.
    texts = [every[at * 7 % len(every)] for at in range(pages * 12)]
    plain = "\n".join(texts).encode("cp1252", "ignore").decode("cp1252")
    for mark in "\\()":
        plain = plain.replace(mark, "")
    lines = [line for text in plain.split("\n") for line in [*textwrap.wrap(text, COLUMNS), ""]]
    path.write_bytes(pdf(*("\n".join(lines[at * LINES : (at + 1) * LINES]) for at in range(pages))))
    return path


def rates(path: Path, repeat: int) -> Iterator[tuple[str, str]]:
    """The two take turns, so that what else runs on the machine meets both."""
    from django.conf import settings

    from embeddings.at_hand import served
    from embeddings.embedder import Embedder
    from embeddings.encoder import load_encoder
    from embeddings.models import Chunk

    encoder = load_encoder(settings.EMBEDDING_MODEL, device=settings.DEVICE)
    through, bare = [], []
    with served(Embedder(encoder.name, lambda: encoder)) as url:
        settings.MODEL_URL = url
        for turn in range(repeat + 1):
            began = time.perf_counter()
            pages = ingest(path, f"Round {turn}")
            middle = time.perf_counter()
            texts = list(
                Chunk.objects.filter(index__collection__name=f"Round {turn}").values_list("text", flat=True)
            )
            before_bare = time.perf_counter()
            by_hand(path, encoder._model, texts)
            if turn:  # The first round warms both up.
                through.append(pages / (middle - began))
                bare.append(pages / (time.perf_counter() - before_bare))
    site_rate, library = statistics.median(through), statistics.median(bare)
    yield f"site, {pages} pages, {len(texts)} chunks, {encoder.dtype}", f"{site_rate:.1f} pages/s"
    yield "bare pypdfium2 + sentence-transformers + FAISS", f"{library:.1f} pages/s"
    yield "share", f"{site_rate / library:.2f}"


def ingest(path: Path, collection: str) -> int:
    """Make a document of the file; how many pages it has. Raises CommandError where it becomes none."""
    from django.core.management import call_command

    from embeddings.models import DocumentVersion

    with open(os.devnull, "w") as nowhere:
        call_command(
            "ingest", str(path), collection=collection, owner="bench", stdout=nowhere, stderr=nowhere
        )
    return DocumentVersion.objects.latest("created_at").pages_total


def by_hand(path: Path, model: Any, texts: list[str]) -> None:
    """The same work with nothing but the libraries, on the same pieces of text."""
    import faiss
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    assert "".join(page.get_textpage().get_text_bounded() for page in document)
    document.close()
    vectors = model.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors.astype("float32"))


if __name__ == "__main__":
    main()
