"""Whether an uploaded file is taken: its name, its first bytes and its structure have to agree.

What is inside is for the parser, in its child process; here nothing is unpacked but the list of a zip's
members and the one that says what they are.
"""

import mmap
import re
import unicodedata
import zipfile
from pathlib import Path

from llmsite.core.errors import TooLarge, UnsupportedFile

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML, MARKDOWN, TEXT, CSV = "text/html", "text/markdown", "text/plain", "text/csv"

MEDIA_TYPES = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".html": HTML,
    ".htm": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": TEXT,
    ".csv": CSV,
}

MOST_BYTES_OF_TEXT = 5_000_000
"""Of the formats that are text."""
MOST_BYTES_OF_MEMBERS = 1_000_000
"""Of a zip's list of its members: one of 10,000 takes 600,000."""
MOST_BYTES_OF_TYPES = 1_000_000

LONGEST_NAME = 200
LOOK = 1024
"""Bytes in which the mark of a format stands, and in which no other one may."""

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP = b"PK\x03\x04"
BINARY = (
    b"%PDF-", b"PK\x03\x04", b"PK\x05\x06", OLE, b"{\\rtf", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"\x7fELF",
    b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"SQLite format 3", b"%!PS",
)  # fmt: skip
"""How files begin that are no text. Others (programs, bitmaps) give themselves away by zero bytes."""
WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
"""Marks of UTF-16 and UTF-32, the only texts with zero bytes."""
MARKUP = re.compile(rb"<(?:!doctype\s+html|html|script|svg|iframe)[\s>]", re.IGNORECASE)
# A comment ends where it first may, once and for all (?>): else 30 of them have a billion ways to be read.
NOT_HTML = re.compile(
    rb"^\s*(?:<\?xml[^>]*>\s*)?(?:(?><!--.*?-->)\s*)*<(?!!doctype\s+html|html)(?:!doctype|svg|rss|feed)",
    re.I | re.S,
)
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")

UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def safe_name(name: str) -> str:
    """A file name that can be shown: no folders, no control marks, none that turns the direction of text."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(letter for letter in name if unicodedata.category(letter) not in UNSHOWN)
    name = " ".join(name.split()).strip(". ")
    stem, dot, extension = name.rpartition(".")
    if len(name) > LONGEST_NAME:
        name = (
            f"{stem[: LONGEST_NAME - len(extension) - 1]}.{extension}"
            if dot and len(extension) < 20
            else name
        )
    return name[:LONGEST_NAME] or "document"


def safe_path(folder: str, name: str) -> str:
    """A safe name behind the names of the folders it is in; those farthest up go where there is no room."""
    parts = [safe_name(part) for part in folder.split("/") if part] + [safe_name(name)]
    while len("/".join(parts)) > LONGEST_NAME and len(parts) > 1:
        del parts[0]
    return "/".join(parts)


def check_upload(name: str, head: bytes, path: Path) -> str:
    """The media type of the file at `path`, which begins with `head` (1,024 bytes, or all there are).

    Raises UnsupportedFile for a kind that is not read here and for a file that is not what its name says,
    TooLarge where it could not be read anyway.
    """
    media_type = MEDIA_TYPES.get(Path(safe_name(name)).suffix.lower())
    if media_type is None:
        raise UnsupportedFile(field="file")
    if media_type == PDF:
        _check_pdf(head[:LOOK], path)
    elif media_type == DOCX:
        _check_docx(head[:LOOK], path)
    else:
        _check_text(head, path, is_html=media_type == HTML)
    return media_type


def _check_pdf(head: bytes, path: Path) -> None:
    """A PDF from its first byte on, and nothing else besides: not a page of HTML, and no zip behind it."""
    if not head.lstrip().startswith(b"%PDF-") or MARKUP.search(head) or zipfile.is_zipfile(path):
        raise UnsupportedFile(field="file")


def _check_text(head: bytes, path: Path, *, is_html: bool) -> None:
    if path.stat().st_size > MOST_BYTES_OF_TEXT:
        raise TooLarge(field="file", limit=MOST_BYTES_OF_TEXT // 1_000_000, unit="MB")
    if head.startswith(BINARY) or (b"\x00" in head and not head.startswith(WIDE)):
        raise UnsupportedFile(field="file")
    if b"%PDF-" in head[:LOOK] or (is_html and NOT_HTML.match(head)):
        raise UnsupportedFile(field="file")


def _check_docx(head: bytes, path: Path) -> None:
    if head.startswith(OLE):
        _check_locked(path)
        return
    if not head.startswith(ZIP) or b"%PDF-" in head:
        raise UnsupportedFile(field="file")
    if zipfile.is_zipfile(path):
        _check_members(path)
    elif not head[30:].startswith((b"[Content_Types].xml", b"_rels/", b"word/", b"docProps/")):
        raise UnsupportedFile(field="file")


def _check_locked(path: Path) -> None:
    """Office wraps a document with a password; the parser says that it has one. An old .doc is refused."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(ENCRYPTED_PACKAGE) < 0:
            raise UnsupportedFile(field="file")


def _check_members(path: Path) -> None:
    """A Word document, and none with macros, whatever its name says."""
    if _bytes_of_members(path) > MOST_BYTES_OF_MEMBERS:
        raise TooLarge(field="file", limit=2000, unit="members")
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if not {"[Content_Types].xml", "word/document.xml"} <= names or _has_macros(archive, names):
                raise UnsupportedFile(field="file")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError):
        return  # The parser says what is wrong with it.


def _has_macros(archive: zipfile.ZipFile, names: set[str]) -> bool:
    if any(name.lower().endswith("vbaproject.bin") for name in names):
        return True
    with archive.open("[Content_Types].xml") as types:
        return b"macroenabled" in types.read(MOST_BYTES_OF_TYPES).lower()


def _bytes_of_members(path: Path) -> int:
    """How long the list is by the zip's own word, which is at its end."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 65_557), 2)
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
