"""Pages become pieces that fit the encoder: cut between paragraphs, else sentences, else words.

Pure: it knows neither the database nor the encoder. A piece is exactly `text[start:end]` of its page, the
pieces of a page follow each other in its order, and only white space is left out between them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Protocol

CHUNKER = "2"
"""Goes up with every change of where pieces are cut: what is stored was cut by one chunker."""

MOST_TOKENS = 200
ENOUGH_TOKENS = 100
FEW_TOKENS = 40

LEAST_CHARACTERS = 20
LEAST_WORDS = 4
MOST_OF_TAIL = 40
"""Characters. Some scripts put no space between words, so few words alone do not make a text short."""

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""The tokens of each text, with the marks that the encoder puts around it."""

LONGEST_SENTENCE = 500
"""Characters. A longer one is no sentence, and is cut between words."""
RUN = 150
"""Characters of such a part, and of a word without an end."""
LONGEST_HEADING = 300
CHARACTERS_PER_TOKEN = 8
"""More than any text has. Encoders count a word that they do not know as one token, however long it is."""

PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
# Spaces that a sentence may end before: those of a line's end, and those behind one of its last marks.
SPACE = re.compile(r"(?<!\s)[^\S\n]*+\n\s*|(?<=[.!?…'\"’”»)\]])\s+")
SENTENCE_END = re.compile(r"[.!?…]['\"’”»)\]]{0,3}$")
# Scripts that put no space after a sentence.
WIDE_SENTENCE_END = re.compile(r"(?<=[。！？])")
SENTENCE_START = re.compile(r"['\"‘“«(\[¿¡]*[^\W_a-zß-öø-ÿ]")
LIST_ITEM = re.compile(r"(?:[-*•●▪–]|\d{1,3}[.)]|[a-z]\))\s")
INITIAL = re.compile(r"(?:^|[\s(.])[^\W\d_]\.$")
NUMBER_OF_HEADING = re.compile(r"(?:^|\n)[^\S\n]*\d[\d.]*\.$")
LAST_WORD = re.compile(r"[^\W\d_][\w.]*\.$")
ENGLISH = (
    "mr mrs ms dr prof st no nos vol fig figs eq sec ch pp cf ca vs etc e.g i.e al inc ltd co corp jr sr dept"
)
SPANISH = (
    "sra srta dra d dña ud uds núm n.º p.ej ej pág págs cap art arts av avda tel aprox ed ee ee.uu uu a.c d.c"
)
ABBREVIATIONS = frozenset(f"{ENGLISH} {SPANISH}".split())
# Pieces of words of which most encoders make one token or less, from the first letter to the last one.
WORD = re.compile(r"[a-z]+|[^\W\d_]+|\d|[^\w\s]", re.IGNORECASE)


class Page(Protocol):
    """What is cut; `headings` are (offset into `text`, heading), in order."""

    @property
    def number(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def headings(self) -> Sequence[tuple[int, str]]: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """`text` is that of its page from `start` to `end`, in characters.

    `heading` is the one that it begins with, or the last one above it.
    """

    page: int
    start: int
    end: int
    heading: str
    text: str


@dataclass(slots=True)
class Atom:
    """What is not cut any more: a sentence, or a part of one that is too long."""

    start: int
    end: int
    tokens: int = 0
    starts_paragraph: bool = False
    heading: str | None = None
    """The heading that it is or begins with."""


def chunk(
    pages: Iterable[Page],
    *,
    count_tokens: CountTokens | None = None,
    most_tokens: int = MOST_TOKENS,
    enough_tokens: int = ENOUGH_TOKENS,
) -> list[Piece]:
    """The pieces of a document, none of more than `most_tokens` but for a tail of a few words.

    A piece of `enough_tokens` ends with its paragraph. A number or a word that is left over at the end of a
    page says nothing by itself, so it stays with the piece before it. Without `count_tokens` an estimate is
    used that is seldom too low (see `estimate_tokens`).
    """
    count = count_tokens or (lambda texts: [estimate_tokens(text) for text in texts])
    marks = count([""])[0]
    room = max(1, most_tokens - marks)
    pieces: list[Piece] = []
    heading = ""
    for page in pages:
        atoms = _counted(page.text, list(_atoms(page)), count, marks, room)
        groups = _groups(atoms, room, enough_tokens)
        fitting = [part for whole in groups for part in _fitting(page.text, whole, count, most_tokens)]
        for group in _without_tail(page.text, fitting):
            heading = _heading_of(group, heading)
            start, end = group[0].start, group[-1].end
            pieces.append(Piece(page.number, start, end, heading, page.text[start:end]))
            heading = next((atom.heading for atom in reversed(group) if atom.heading), heading)
    return pieces


def estimate_tokens(text: str) -> int:
    """About as many as a WordPiece vocabulary of English makes of it, and rather more than fewer."""
    return 2 + sum(_tokens_of_word(word) for word in WORD.findall(text))


def _tokens_of_word(word: str) -> int:
    if word.isascii():
        return 1 + len(word) // 5
    return max(1, ceil(len(word) / 2))


def _heading_of(group: list[Atom], above: str) -> str:
    """That of its first line; one further down is only of what follows it."""
    headings = []
    for atom in group:
        if atom.heading is None:
            break
        headings.append(atom.heading)
    return (headings[-1] if headings else above)[:LONGEST_HEADING]


# --- Into atoms -------------------------------------------------------------------------------------


def _atoms(page: Page) -> Iterator[Atom]:
    headings = dict(page.headings)
    for start, end in _paragraphs(page.text, headings):
        heading = headings.get(start)
        for first, last in _sentences(page.text, start, end):
            for begin, stop in _runs(page.text, first, last):
                yield Atom(begin, stop, starts_paragraph=begin == start, heading=heading)
                heading = None


def _paragraphs(text: str, headings: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Between empty lines, and from heading to heading."""
    cuts = {0, len(text), *(found.end() for found in PARAGRAPH_END.finditer(text))}
    cuts.update(at for at in headings if 0 <= at <= len(text))
    return _trimmed(text, sorted(cuts))


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    cuts = [start]
    for space in SPACE.finditer(text, start, end):
        if _is_sentence_end(text, space.start(), space.end(), cuts[-1]):
            cuts.append(space.end())
    cuts.extend(found.start() for found in WIDE_SENTENCE_END.finditer(text, start, end))
    return _trimmed(text, sorted({*cuts, end}))


def _is_sentence_end(text: str, end: int, start: int, began: int) -> bool:
    """Whether one ends before the space from `end` to `start`; `began` is where it began."""
    before = text[max(began, end - 20) : end]
    after = text[start : start + 8]
    if "\n" in text[end:start] and (LIST_ITEM.match(after) or before.endswith((":", ";"))):
        return True
    if not SENTENCE_END.search(before) or not SENTENCE_START.match(after):
        return False
    return not _is_abbreviation(before)


def _is_abbreviation(before: str) -> bool:
    if not before.endswith("."):
        return False
    word = LAST_WORD.search(before)
    is_part = INITIAL.search(before) or NUMBER_OF_HEADING.search(before)
    return bool(is_part) or (word is not None and word[0][:-1].lower() in ABBREVIATIONS)


def _runs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentence, or where it is too long for one, parts of about RUN characters."""
    if end - start <= LONGEST_SENTENCE:
        yield start, end
        return
    while start < end:
        stop = _cut(text, start, min(start + RUN, end), end)
        yield from _trimmed(text, [start, stop])
        start = stop


def _cut(text: str, start: int, stop: int, end: int) -> int:
    """The last place up to `stop` where a word begins; else `stop`, but not before a mark on a letter."""
    if stop >= end:
        return end
    for at in range(stop, start, -1):
        if text[at - 1].isspace():
            return at
    return stop


def _trimmed(text: str, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The ranges between the cuts, without white space around them."""
    for start, end in pairwise(cuts):
        part = text[start:end]
        stripped = part.strip()
        if stripped:
            begin = start + len(part) - len(part.lstrip())
            yield begin, begin + len(stripped)


# --- How long they are --------------------------------------------------------------------------------


def _counted(text: str, atoms: list[Atom], count: CountTokens, marks: int, room: int) -> list[Atom]:
    """The same with their tokens, without the encoder's marks; too long ones are halved until they fit."""
    done: list[Atom] = []
    waiting = atoms[::-1]
    for atom, tokens in zip(atoms, count([text[atom.start : atom.end] for atom in atoms]), strict=True):
        atom.tokens = tokens - marks
    while waiting:
        atom = waiting.pop()
        if atom.end - atom.start == 1 or atom.tokens <= room:
            done.append(atom)
        else:
            waiting.extend(reversed(_halves(text, atom, count, marks)))
    return done


def _halves(text: str, atom: Atom, count: CountTokens, marks: int) -> list[Atom]:
    middle = _cut(text, atom.start, (atom.start + atom.end) // 2, atom.end)
    parts = list(_trimmed(text, [atom.start, middle, atom.end]))
    tokens = count([text[start:end] for start, end in parts])
    halves = [Atom(start, end, n - marks) for (start, end), n in zip(parts, tokens, strict=True)]
    halves[0].starts_paragraph, halves[0].heading = atom.starts_paragraph, atom.heading
    return halves


# --- Into pieces ----------------------------------------------------------------------------------------


def _groups(atoms: list[Atom], most: int, enough: int) -> Iterator[list[Atom]]:
    """Runs of atoms that are a piece each."""
    group: list[Atom] = []
    tokens, characters = 0, 0
    for paragraph in _by_paragraph(atoms):
        whole = sum(atom.tokens for atom in paragraph)
        if group and _ends_before(paragraph, tokens, whole, most, enough):
            yield group
            group, tokens = [], 0
        # A long paragraph is cut in parts of about the same length, and leaves no tail of a few words.
        parts = ceil((tokens + whole) / most) or 1
        even = (tokens + whole) / parts
        for atom in paragraph:
            characters = atom.end - group[0].start if group else 0
            is_full = tokens + atom.tokens > most or characters > most * CHARACTERS_PER_TOKEN
            if group and (is_full or (parts > 1 and tokens + atom.tokens / 2 > even)):
                yield group
                group, tokens = [], 0
            group.append(atom)
            tokens += atom.tokens
    if group:
        yield group


def _fitting(text: str, group: list[Atom], count: CountTokens, most: int) -> Iterator[list[Atom]]:
    """The group, or parts of it: with no space between them, two atoms can be more tokens than their sum."""
    touching = any(left.end == right.start for left, right in pairwise(group))
    if touching and count([text[group[0].start : group[-1].end]])[0] > most:
        middle = len(group) // 2
        yield from _fitting(text, group[:middle], count, most)
        yield from _fitting(text, group[middle:], count, most)
    else:
        yield group


def _without_tail(text: str, groups: list[list[Atom]]) -> list[list[Atom]]:
    """The groups of a page; a last one that says next to nothing is part of the one before it."""
    if len(groups) < 2 or not _is_tiny(text[groups[-1][0].start : groups[-1][-1].end]):
        return groups
    *others, before, tail = groups
    return [*others, before + tail]


def _is_tiny(text: str) -> bool:
    is_few = len(text) < MOST_OF_TAIL and len(text.split()) < LEAST_WORDS
    return len(text) < LEAST_CHARACTERS or is_few


def _by_paragraph(atoms: list[Atom]) -> Iterator[list[Atom]]:
    paragraph: list[Atom] = []
    for atom in atoms:
        if atom.starts_paragraph and paragraph:
            yield paragraph
            paragraph = []
        paragraph.append(atom)
    if paragraph:
        yield paragraph


def _ends_before(paragraph: list[Atom], tokens: int, whole: int, most: int, enough: int) -> bool:
    """Whether a piece of `tokens` ends where `paragraph`, of `whole` tokens, begins."""
    if paragraph[0].heading:
        return tokens >= FEW_TOKENS
    return tokens >= enough or (tokens >= FEW_TOKENS and tokens + whole > most)
