"""The words of one SearchIndex (BM25), by tantivy: on disk, changed by versions, never built for a query.

A change is one commit, so the index holds whole versions only. What it holds it tells itself: the first chunk
of each version carries a word that names both. tantivy never changes a file, and ends each with a checksum.

Its files keep what was deleted until they are merged with others. So they are given digests of words instead
of words: nobody reads in them what a deleted document said.
"""

import hashlib
import json
import math
import shutil
import struct
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import structlog

from embeddings.indexes.analyzers import FIELDS, analyzer, field_of
from embeddings.indexes.vectors import Match, ranked

if TYPE_CHECKING:
    from tantivy import Index, Query, Schema, Searcher

log = structlog.get_logger(__name__)

FORMAT = 1
"""Goes up with every change of the fields or of an analyzer, so that older indexes are made again."""
HEAP = 32 << 20
"""Bytes of words that are gathered before they are written."""
MOST_WORDS = 64
"""Of a question, in each language."""

K1 = 1.2
"""tantivy's constant of BM25: a word that a chunk says again and again counts 2.2 times at most."""

CHUNK, FIELD, VERSION, FIRST, DIGESTS = "chunk", "field", "version", "first", "digests"
MAGIC = 1337
"""What tantivy ends each of its files with, after the length of what it says about the file."""


class Text(NamedTuple):
    """A version of a document, as its words are looked for."""

    version: UUID
    language: str
    chunks: Iterable[tuple[int, str]]
    """The id of each chunk and its text, in their order."""


class LexicalIndex:
    """For any number of threads, of which one at a time may change it. Without a `folder` it is in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder / f"words-{FORMAT}" if folder else None
        self._lock = threading.Lock()
        self._index = _open(self._folder)
        self._searcher: Searcher = self._index.searcher()

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def held(self) -> Mapping[UUID, int]:
        """The versions it has, each with the id of its first chunk."""
        from tantivy import Query

        # Without a query it would name versions whose chunks are gone.
        found = self._searcher.terms_with_prefix(FIRST, "", Query.all_query())
        pairs = (name.split(":") for name, chunks in found if chunks)
        return {UUID(version): int(chunk) for version, chunk in pairs}

    def change(self, *, add: Iterable[Text] = (), remove: Collection[UUID] = ()) -> None:
        """Drop `remove`, and take in versions in place of what it had of them."""
        with self._lock:
            writer = self._index.writer(heap_size=HEAP, num_threads=1)
            try:
                for version in remove:
                    writer.delete_documents_by_term(VERSION, version.hex)
                for text in add:
                    writer.delete_documents_by_term(VERSION, text.version.hex)
                    for document in _documents(text):
                        writer.add_document(document)
                writer.commit()
            finally:
                # It holds a lock on the folder until its threads are gone.
                writer.wait_merging_threads()
            self._index.reload()
            self._searcher = self._index.searcher()

    def search(self, text: str, most: int) -> Sequence[Match]:
        """The `most` chunks that say most of what the words of `text` say; its signs mean nothing.

        Scores are BM25 as a share of the most that a chunk can have for these words, from 0 to 1.
        """
        searcher, chunks = self._searcher, len(self)
        terms = [(field, word) for field in FIELDS for word in _words(field, text)[:MOST_WORDS]]
        weights = {term: _weight(searcher.doc_freq(*term), chunks) for term in terms}
        present = [term for term in terms if weights[term] < _weight(0, chunks)]
        if not present:
            return []
        hits = searcher.search(_any_of(self._index.schema, present), most, count=False).hits
        places = [place for _, place in hits]
        most_of = _sums((field, weight * (K1 + 1)) for (field, _), weight in weights.items())
        fields = [FIELDS[int(at or 0)] for at in searcher.fast_field_values(FIELD, places)]
        shares = [score / most_of[field] for (score, _), field in zip(hits, fields, strict=True)]
        return ranked([int(chunk or 0) for chunk in searcher.fast_field_values(CHUNK, places)], shares)


def _weight(having: int, chunks: int) -> float:
    """What a word is worth that `having` of all chunks have."""
    return math.log(1 + (chunks - having + 0.5) / (having + 0.5))


def _sums(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in values:
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _any_of(schema: "Schema", terms: Iterable[tuple[str, str]]) -> "Query":
    from tantivy import Occur, Query

    return Query.boolean_query(
        [(Occur.Should, Query.term_query(schema, field, word, index_option="freq")) for field, word in terms]
    )


def _documents(text: Text) -> Iterator[Any]:
    from tantivy import Document

    field = field_of(text.language)
    for at, (chunk, words) in enumerate(text.chunks):
        fields: dict[str, Any] = {CHUNK: chunk, FIELD: FIELDS.index(field), VERSION: text.version.hex}
        if at == 0:
            fields[FIRST] = f"{text.version.hex}:{chunk}"
        fields[field] = " ".join(map(_digest, analyzer(field).analyze(words)))
        yield Document(**fields)


def _words(field: str, text: str) -> list[str]:
    """Each word of `text` once, as it stands in `field`."""
    return [_digest(word) for word in dict.fromkeys(analyzer(field).analyze(text))]


@lru_cache(maxsize=1 << 16)
def _digest(word: str) -> str:
    return hashlib.blake2b(word.encode(), digest_size=8).hexdigest()


def _open(folder: Path | None) -> "Index":
    """The index in `folder`, empty where there is none or where it is damaged."""
    from tantivy import Index, TextAnalyzerBuilder, Tokenizer

    if folder is None:
        index = Index(_schema())
    else:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _check(folder)
            index = Index(_schema(), path=str(folder))
        except (OSError, ValueError, struct.error) as error:
            log.warning("words_damaged", folder=str(folder), error=repr(error))
            shutil.rmtree(folder)
            folder.mkdir()
            index = Index(_schema(), path=str(folder))
    index.register_tokenizer(DIGESTS, TextAnalyzerBuilder(Tokenizer.whitespace()).build())
    # Otherwise a thread for each index would look for changes, and all of them are made here.
    index.config_reader("manual")
    index.reload()
    return index


def _schema() -> "Schema":
    from tantivy import SchemaBuilder

    builder = SchemaBuilder().add_integer_field(CHUNK, fast=True).add_integer_field(FIELD, fast=True)
    for name in (VERSION, FIRST):
        builder = builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in FIELDS:
        builder = builder.add_text_field(name, tokenizer_name=DIGESTS, index_option="freq")
    return builder.build()


def _check(folder: Path) -> None:
    """Raises ValueError, OSError or struct.error where a file is not as tantivy wrote it."""
    if not (folder / "meta.json").exists():
        return
    segments = json.loads((folder / "meta.json").read_bytes())["segments"]
    for segment in segments:
        files = list(folder.glob(f"{segment['segment_id'].replace('-', '')}.*"))
        if not files:
            raise ValueError(f"segment {segment['segment_id']} is missing")
        for path in files:
            _check_file(path)


def _check_file(path: Path) -> None:
    content = memoryview(path.read_bytes())
    length, magic = struct.unpack("<II", content[-8:])
    footer = json.loads(bytes(content[-8 - length : -8]))
    if magic != MAGIC or footer["crc"] != zlib.crc32(content[: -8 - length]):
        raise ValueError(f"the checksum of {path.name} is another")
