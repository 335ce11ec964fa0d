"""Texts as all formats hand them over, and the ways a document can fail to be one."""

import re
from dataclasses import dataclass, field
from unicodedata import category, normalize

MOST_CHARACTERS = 10_000_000
"""Of one document. A page of a book has 2,000 to 4,000."""
MOST_HEADINGS = 20_000
MOST_TITLE = 255

LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Controls, and what is not to be seen: marks that turn the direction of text, invisible joiners, and "tags",
# in which text for a model can be hidden from people. The joiners that Persian and emoji need stay.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e0fff]"
)
BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters by their category that nobody sees: fillers of Korean syllables, and Braille without a dot."""
# It begins only where the spaces do, and gives none back: many of them are looked at once.
ENDS_OF_LINES = re.compile(r"(?<![^\S\n])[^\S\n]++(?=\n)")
MANY_LINES = re.compile(r"\n{3,}")


class Unreadable(Exception):
    """The document gave no text. The argument is one of the words of `embeddings/parsing/reasons.py`."""


@dataclass(slots=True)
class Page:
    """`headings` are (offset into `text`, heading), in the order of the text."""

    number: int
    text: str
    headings: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Content:
    """What was read of one document."""

    pages: list[Page]
    is_paged: bool = False
    title: str = ""


class Blocks:
    """Paragraphs and headings on their way to be one text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._headings: list[tuple[int, str]] = []
        self._length = 0

    def add(self, text: str, *, is_heading: bool = False) -> None:
        text = clean(text)
        if not text:
            return
        if is_heading and len(self._headings) < MOST_HEADINGS:
            self._headings.append((self._length, one_line(text)))
        self._parts.append(text)
        self._length += len(text) + 2
        if self._length > MOST_CHARACTERS:
            raise Unreadable("too_large")

    def page(self) -> Page:
        return Page(1, "\n\n".join(self._parts), self._headings)


def clean(text: str) -> str:
    """Unicode's NFKC (no ligatures, no letters of other widths), one kind of line end, nothing unseen."""
    text = LINE_ENDS.sub("\n", text)
    text = UNSEEN.sub("", normalize("NFKC", text))
    return MANY_LINES.sub("\n\n", ENDS_OF_LINES.sub("", text)).strip()


def has_text(text: str) -> bool:
    """Whether there is anything to see: a letter, a number, a mark or a symbol."""
    return any(category(letter)[0] in "LNPS" and letter not in BLANK for letter in text)


def one_line(text: str) -> str:
    return " ".join(text.split())[:MOST_TITLE]
