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
PARTS = ("fast", "fieldnorm", "idx", "pos", "store", "term")
"""The files of each segment."""


Term = tuple[str, str]
"""A field, and a word as it stands there."""


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
        self._index, self._state = _open(self._folder)

    def __len__(self) -> int:
        return self._state.chunks

    def held(self) -> Mapping[UUID, int]:
        """The versions it has, each with the id of its first chunk."""
        return self._state.held()

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
            self._state = _State(self._index.searcher())

    def search(self, text: str, most: int) -> Sequence[Match]:
        """The `most` chunks that say most of what the words of `text` say; its signs mean nothing.

        Scores are BM25 as a share of the most that a chunk can have for these words, from 0 to 1.
        """
        state, schema = self._state, self._index.schema
        terms = [(field, word) for field in FIELDS for word in _words(field, text)[:MOST_WORDS]]
        having = {term: state.having(schema, term) for term in terms}
        weights = {term: _weight(count, state.chunks) for term, count in having.items()}
        present = {term: state.boost(term, weights[term]) for term in terms if having[term]}
        if not present:
            return []
        hits = state.searcher.search(_any_of(schema, present), most, count=False).hits
        places = [place for _, place in hits]
        most_of = _sums((field, weight * (K1 + 1)) for (field, _), weight in weights.items())
        fields = [FIELDS[int(at or 0)] for at in state.searcher.fast_field_values(FIELD, places)]
        shares = [score / most_of[field] for (score, _), field in zip(hits, fields, strict=True)]
        return ranked([int(chunk or 0) for chunk in state.searcher.fast_field_values(CHUNK, places)], shares)


class _State:
    """The index as it is between two changes.

    tantivy weighs words by all that its files hold, what was deleted included, until it merges them. So each
    word is given back the weight that it has among the chunks that are there.
    """

    def __init__(self, searcher: "Searcher") -> None:
        self.searcher = searcher
        self.chunks = int(searcher.num_docs)
        self._written = sum(chunks for _, chunks in searcher.terms_with_prefix(VERSION, ""))
        """Chunks in the files: each has one word that names its version."""

    def held(self) -> Mapping[UUID, int]:
        from tantivy import Query

        # Without a query it would name versions whose chunks are gone.
        found = self.searcher.terms_with_prefix(FIRST, "", Query.all_query())
        pairs = (name.split(":") for name, chunks in found if chunks)
        return {UUID(version): int(chunk) for version, chunk in pairs}

    def having(self, schema: "Schema", term: Term) -> int:
        """How many chunks have a word."""
        written = self.searcher.doc_freq(*term)
        if not written or self._written == self.chunks:
            return written
        found: Any = self.searcher.search(_term_query(schema, term), 1, count=True)
        return int(found.count)

    def boost(self, term: Term, weight: float) -> float:
        """What tantivy's score of a word that is there is to be multiplied with, so that it has `weight`."""
        return weight / _weight(self.searcher.doc_freq(*term), self._written)


def _weight(having: int, chunks: int) -> float:
    """What a word is worth that `having` of all chunks have."""
    return math.log(1 + (chunks - having + 0.5) / (having + 0.5))


def _sums(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in values:
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _any_of(schema: "Schema", terms: Mapping[Term, float]) -> "Query":
    """Any of these words, each with its boost."""
    from tantivy import Occur, Query

    boosted = [Query.boost_query(_term_query(schema, term), boost) for term, boost in terms.items()]
    return Query.boolean_query([(Occur.Should, query) for query in boosted])


def _term_query(schema: "Schema", term: Term) -> "Query":
    from tantivy import Query

    return Query.term_query(schema, *term, index_option="freq")


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


def _open(folder: Path | None) -> tuple["Index", _State]:
    """The index in `folder` as it is now, empty where there is none or where it is damaged."""
    if folder is None:
        return _read(None)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _check(folder)
        return _read(folder)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A damaged file may be of any shape; tantivy's panics are no Exception.
        log.warning("words_damaged", folder=str(folder), error=repr(error))
        shutil.rmtree(folder)
        folder.mkdir()
        return _read(folder)


def _read(folder: Path | None) -> tuple["Index", _State]:
    """Raises many kinds of errors where the files do not fit together."""
    from tantivy import Index, TextAnalyzerBuilder, Tokenizer

    index = Index(_schema(), path=str(folder) if folder else None)
    index.register_tokenizer(DIGESTS, TextAnalyzerBuilder(Tokenizer.whitespace()).build())
    # Otherwise a thread for each index would look for changes, and all of them are made here.
    index.config_reader("manual")
    index.reload()
    state = _State(index.searcher())
    state.held()  # Some files are first read when they are asked.
    return index, state


def _schema() -> "Schema":
    from tantivy import SchemaBuilder

    builder = SchemaBuilder().add_integer_field(CHUNK, fast=True).add_integer_field(FIELD, fast=True)
    for name in (VERSION, FIRST):
        builder = builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in FIELDS:
        builder = builder.add_text_field(name, tokenizer_name=DIGESTS, index_option="freq")
    return builder.build()


def _check(folder: Path) -> None:
    """Raises many kinds of errors where a file is missing, or is not as tantivy wrote it."""
    if not any(folder.iterdir()):
        return
    for segment in json.loads((folder / "meta.json").read_bytes())["segments"]:
        name, deletes = segment["segment_id"].replace("-", ""), segment["deletes"]
        parts = [*PARTS, f"{deletes['opstamp']}.del"] if deletes else PARTS
        for part in parts:
            _check_file(folder / f"{name}.{part}")


def _check_file(path: Path) -> None:
    content = memoryview(path.read_bytes())
    length, magic = struct.unpack("<II", content[-8:])
    footer = json.loads(bytes(content[-8 - length : -8]))
    if magic != MAGIC or footer["crc"] != zlib.crc32(content[: -8 - length]):
        raise ValueError(f"the checksum of {path.name} is another")
