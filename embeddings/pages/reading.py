"""A document as its reader sees it: one page of its text, or a part of a long one, with a passage marked."""

from dataclasses import dataclass

from django.db.models.functions import Length, Substr

from accounts.models import User
from embeddings.models import Chunk, Document, DocumentVersion, Page

WINDOW = 8_000
"""How many characters are shown at once."""

_MARGIN = 500
"""How far a border may move, in characters, so that it falls between two paragraphs or words."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage stands: the characters from `start` to `end` of a page's text."""

    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What is shown of one page: its characters from `start` to `end`, parted by the marked passage."""

    page: int
    start: int
    end: int
    length: int
    """Of the whole page."""
    before: str
    marked: str
    after: str

    @property
    def earlier(self) -> int | None:
        """From where the part before this one is shown; None where this one begins the page."""
        # So far back that nothing is left out between the two, wherever the borders fall.
        return max(0, self.start - WINDOW + 2 * _MARGIN) if self.start else None

    @property
    def later(self) -> int | None:
        return self.end if self.end < self.length else None

    @property
    def is_blank(self) -> bool:
        return not (self.before + self.marked + self.after).strip()


def place_of_chunk(user: User, document: Document, pk: int) -> Place | None:
    """Where a chunk of `document` stands; None where it is none of this document's that is searched."""
    chunks = Chunk.objects.visible_to(user).filter(version__document=document)
    chunk = chunks.filter(pk=pk).only("page", "start", "end").first()
    return Place(chunk.page, chunk.start, chunk.end) if chunk else None


def first_page_with_text(version: DocumentVersion) -> int:
    """Its number; 1 where there is no text at all."""
    pages = Page.objects.filter(version=version).exclude(text="").order_by("number")
    return pages.values_list("number", flat=True).first() or 1


def excerpt(
    version: DocumentVersion, page: int, *, marked: Place | None = None, begin: int | None = None
) -> Excerpt:
    """The text of a page of `version`; of a long one the part around `marked`, or from `begin` on.

    A page without a row has no text.
    """
    rows = Page.objects.filter(version=version, number=page)
    length = rows.annotate(length=Length("text")).values_list("length", flat=True).first() or 0
    marked = marked if marked and marked.page == page else None
    if begin is None:
        begin = marked.start - WINDOW // 4 if marked else 0
    begin = max(0, min(begin, length)) if length > WINDOW else 0
    fetched_from = max(0, begin - _MARGIN)
    # Characters, not bytes, in both databases, and the first one is 1.
    part = Substr("text", fetched_from + 1, WINDOW + 2 * _MARGIN)
    text = rows.annotate(part=part).values_list("part", flat=True).first() or ""
    start = _break_near(text, begin - fetched_from) if begin else 0
    is_last = fetched_from + len(text) >= length
    stop = len(text) if is_last else _break_near(text, start + WINDOW)
    return _part(text[start:stop], page, fetched_from + start, length, marked)


def _part(text: str, page: int, offset: int, length: int, marked: Place | None) -> Excerpt:
    end = offset + len(text)
    first = min(max(marked.start - offset, 0), len(text)) if marked else len(text)
    last = min(max(marked.end - offset, first), len(text)) if marked else len(text)
    return Excerpt(page, offset, end, length, text[:first], text[first:last], text[last:])


def _break_near(text: str, position: int) -> int:
    """The end of a paragraph, else of a line or a word, shortly before `position`; else `position`."""
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, max(0, position - _MARGIN), position)
        if found >= 0:
            return found + len(mark)
    return min(position, len(text))
