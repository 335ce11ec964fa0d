"""DOCX: a zip of XML, read as a stream, with nothing taken at its word."""

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any

from lxml import etree

from .text import Blocks, Content, Unreadable

MOST_MEMBERS = 2000
MOST_BYTES = 50_000_000
"""Unpacked, of all members as they are declared, and of each one as it comes."""
MOST_ELEMENTS = 2_000_000
"""Of each member. MOST_BYTES has 25 bytes for each of them, and few programs write shorter ones."""

ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
TITLE = "{http://purl.org/dc/elements/1.1/}title"
HEADING = re.compile(r"heading [1-9]|title|subtitle", re.IGNORECASE)


def read(data: bytes) -> Content:
    archive = _open(data)
    try:
        headings = _heading_styles(archive)
        body = _Body(headings)
        for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml"):
            for event, element in _events(archive, part):
                body.take(event, element)
        return Content([body.blocks.page()], title=_title(archive))
    except etree.XMLSyntaxError as error:
        raise Unreadable(_what_is_wrong(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise Unreadable("damaged") from error


def _open(data: bytes) -> zipfile.ZipFile:
    if data.startswith(OLE):
        raise Unreadable("encrypted" if ENCRYPTED_PACKAGE in data else "damaged")
    try:
        archive = zipfile.ZipFile(BytesIO(data))
    except zipfile.BadZipFile as error:
        raise Unreadable("damaged") from error
    members = archive.infolist()
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_BYTES:
        raise Unreadable("too_large")
    if "word/document.xml" not in archive.namelist():
        raise Unreadable("damaged")
    return archive


class _Counted:
    """A member as a file that ends with an error where more comes out of it than is read here."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        member = archive.getinfo(name)
        if member.flag_bits & 1:
            raise Unreadable("encrypted")
        # Its declared size would be the end of it, however much there is: so it is said to have none.
        member.file_size = 1 << 40
        self._file: IO[bytes] = archive.open(member)
        self._count = 0

    def read(self, size: int = 65_536) -> bytes:
        piece = self._file.read(size)
        self._count += len(piece)
        if self._count > MOST_BYTES:
            raise Unreadable("too_large")
        return piece


def _events(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[str, Any]]:
    """The start and end of each element. Nothing outside is loaded, and entities cannot grow without end."""
    if name not in archive.namelist():
        return
    events = etree.iterparse(
        _Counted(archive, name),
        events=("start", "end"),
        resolve_entities="internal",
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    for count, (event, element) in enumerate(events):
        if count == 2 * MOST_ELEMENTS:
            raise Unreadable("too_large")
        yield event, element


def _what_is_wrong(error: etree.XMLSyntaxError) -> str:
    """An entity that grows without end, nesting without end, or text without end: else it is broken."""
    codes = etree.ErrorTypes
    bombs = (codes.ERR_ENTITY_LOOP, codes.ERR_RESOURCE_LIMIT, codes.ERR_NAME_TOO_LONG)
    return "too_large" if error.code in bombs else "damaged"


def _tag(element: Any) -> str:
    return str(element.tag).replace(STRICT, W)


def _heading_styles(archive: zipfile.ZipFile) -> frozenset[str]:
    """The ids of styles of headings: an id is in the writer's language, a style's name always in English."""
    found = set()
    for event, element in _events(archive, "word/styles.xml"):
        if event == "end" and _tag(element) == f"{W}style":
            name = element.find(element.tag.replace("}style", "}name"))
            value = "" if name is None else _value(name)
            if HEADING.fullmatch(value):
                found.add(element.get(f"{W}styleId") or element.get(f"{STRICT}styleId") or "")
    return frozenset(found)


def _value(element: Any) -> str:
    return element.get(f"{W}val") or element.get(f"{STRICT}val") or ""


def _title(archive: zipfile.ZipFile) -> str:
    for event, element in _events(archive, "docProps/core.xml"):
        if event == "end" and element.tag == TITLE:
            return element.text or ""
    return ""


class _Body:
    """Makes text of the elements as they pass, and keeps none of them."""

    IN_A_RUN = {f"{W}tab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
    SKIPPED = frozenset({f"{W}del", f"{W}moveFrom", FALLBACK})

    def __init__(self, headings: frozenset[str]) -> None:
        self.blocks = Blocks()
        self._headings = headings
        self._skipping = 0
        # Paragraphs stand in paragraphs (text boxes) and tables in cells.
        self._paragraphs: list[list[str]] = []
        self._cells: list[list[str]] = []
        self._rows: list[list[str]] = []
        self._is_heading = False

    def take(self, event: str, element: Any) -> None:
        tag = _tag(element)
        if tag in self.SKIPPED:
            self._skipping += 1 if event == "start" else -1
        if event == "start":
            self._start(tag)
        else:
            self._end(tag, element)
            if tag not in (f"{W}pStyle", f"{W}t"):
                element.clear()

    def _start(self, tag: str) -> None:
        if tag == f"{W}p":
            self._paragraphs.append([])
            self._is_heading = False
        elif tag == f"{W}tc":
            self._cells.append([])
        elif tag == f"{W}tr":
            self._rows.append([])

    def _end(self, tag: str, element: Any) -> None:
        if tag == f"{W}t" and self._paragraphs and not self._skipping:
            self._paragraphs[-1].append(element.text or "")
        elif tag in self.IN_A_RUN and self._paragraphs and not self._skipping:
            self._paragraphs[-1].append(self.IN_A_RUN[tag])
        elif tag == f"{W}pStyle":
            self._is_heading = _value(element) in self._headings
        elif tag == f"{W}p" and self._paragraphs:
            self._put("".join(self._paragraphs.pop()), is_heading=self._is_heading)
        elif tag == f"{W}tc" and self._cells:
            cell = " ".join(" ".join(self._cells.pop()).split())
            if self._rows:
                self._rows[-1].append(cell)
        elif tag == f"{W}tr" and self._rows:
            self._put(" | ".join(filter(None, self._rows.pop())))

    def _put(self, text: str, *, is_heading: bool = False) -> None:
        if self._cells:
            self._cells[-1].append(text)
        else:
            self.blocks.add(text, is_heading=is_heading)
