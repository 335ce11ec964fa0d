"""PDF, page by page, with pdfium."""

import re
import zlib
from collections.abc import Iterator

import pypdfium2
import pypdfium2.raw as pdfium

from .text import MOST_CHARACTERS, MOST_HEADINGS, Content, Page, Unreadable, clean, one_line

MOST_PAGES = 2000
DEEPEST_OUTLINE = 4
MOST_UNPACKED = 100_000_000
"""Bytes of one stream of text or drawing; pages have thousands. Images may be larger and stay packed."""
LEAST_PACKED = MOST_UNPACKED // 1032
"""What zlib at its best makes of as many bytes."""

# A hyphen at the end of a line, as pdfium marks it where it knows, and as it stands where it does not.
KNOWN_HYPHEN = re.compile("[\ufffe\x02](?:\r?\n)?")
HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-\n(?=[a-zà-öø-ÿ]{2})")
# A line goes on in the next one where that starts with a small letter.
WRAP = re.compile(r"(?<=[^\W_]|[,;’'”»)])\n(?=[a-zà-öø-ÿ])")
LEADERS = re.compile(r"(?:\. ?){5,}")
"""The dots of a table of contents."""
STREAM = re.compile(rb"stream\r?\n")
IMAGE = re.compile(rb"/Subtype\s*/Image")
# Where a font does not tell which letters its shapes are, pdfium gives the numbers of the shapes.
SHAPES = re.compile("[\x00-\x08\x0b\x0e-\x1f\ue000-\uf8ff\ufffd]")
MOST_SHAPES = 0.3
PROGRAM_NAMES = re.compile(
    r"microsoft word|untitled|sin título|\.(docx?|pdf|tex|dvi|indd|odt)$", re.IGNORECASE
)


def read(data: bytes) -> Content:
    document = _open(data)
    if len(document) > MOST_PAGES or _has_bomb(data):
        raise Unreadable("too_large")
    pages = _pages(document)
    _add_headings(document, pages)
    return Content(pages, is_paged=True, title=_title(document))


def _open(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        locked = (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
        raise Unreadable("encrypted" if error.err_code in locked else "damaged") from error


def _has_bomb(data: bytes) -> bool:
    """Whether a stream unpacks to more than any page has. What is packed twice meets the limit of memory."""
    for found in STREAM.finditer(data):
        start, end = found.end(), data.find(b"endstream", found.end())
        if end < 0:
            break
        is_image = IMAGE.search(data[max(0, start - 400) : start].rpartition(b" obj")[2])
        if end - start >= LEAST_PACKED and not is_image and _unpacks_to_more(data[start:end]):
            return True
    return False


def _unpacks_to_more(packed: bytes) -> bool:
    unpacker, count = zlib.decompressobj(), 0
    try:
        while packed and count <= MOST_UNPACKED:
            count += len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return count > MOST_UNPACKED


def _pages(document: pypdfium2.PdfDocument) -> list[Page]:
    """All of them; what cannot be read is empty, as long as most of them have text."""
    pages, characters, broken, illegible = [], 0, 0, 0
    for number in range(len(document)):
        try:
            raw = _text(document, number)
        except pypdfium2.PdfiumError:
            raw, broken = "", broken + 1
        if len(SHAPES.findall(raw)) > MOST_SHAPES * len(raw):
            raw, illegible = "", illegible + 1
        pages.append(Page(number + 1, LEADERS.sub("... ", clean(unwrap(raw)))))
        characters += len(pages[-1].text)
        if characters > MOST_CHARACTERS:
            raise Unreadable("too_large")
    if broken and not characters:
        raise Unreadable("damaged")
    if illegible > sum(bool(page.text) for page in pages):
        raise Unreadable("no_letters")
    return pages


def _text(document: pypdfium2.PdfDocument, number: int) -> str:
    page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            return str(text_page.get_text_range())
        finally:
            text_page.close()
    finally:
        page.close()


def unwrap(text: str) -> str:
    """Words and sentences that the ends of lines cut are made whole."""
    text = KNOWN_HYPHEN.sub("", text).replace("\r\n", "\n")
    return WRAP.sub(" ", HYPHEN.sub("", text))


def _title(document: pypdfium2.PdfDocument) -> str:
    """What it says of itself, unless that is only what the program that made it called it."""
    title = document.get_metadata_dict().get("Title", "")
    return "" if PROGRAM_NAMES.search(title) else title


def _add_headings(document: pypdfium2.PdfDocument, pages: list[Page]) -> None:
    """The entries of the outline, where their words stand on their page; else at its top."""
    for at, heading in _outline(document):
        if 0 <= at < len(pages):
            page = pages[at]
            after = page.headings[-1][0] if page.headings else 0
            page.headings.append((_find(page.text, heading, after), heading))


def _outline(document: pypdfium2.PdfDocument) -> Iterator[tuple[int, str]]:
    for count, entry in enumerate(document.get_toc(max_depth=DEEPEST_OUTLINE)):
        if count == MOST_HEADINGS:
            return
        target = entry.get_dest()
        at = target.get_index() if target else None
        heading = one_line(clean(entry.get_title()))
        if at is not None and heading:
            yield at, heading


def _find(text: str, heading: str, after: int) -> int:
    """Where a line ends with `heading`, from `after` on; chapters have their number before it."""
    words = r"\s+".join(map(re.escape, heading.split()))
    found = re.compile(rf"^(?:[^\n]{{0,20}}[\s.])?{words}\s*$", re.MULTILINE).search(text, after)
    return found.start() if found else after
