"""Plain text, and how bytes become letters for all formats that are text."""

import codecs
import re
from functools import cache

from .text import Content, Page, Unreadable, clean

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What West European texts use beyond ASCII. In any other encoding, some letter would come out as another one.
WESTERN = re.compile(
    "[\x09\x0a\x0d\x20-\x7eáéíóúüñçàèìòùâêîôûëïäößœæÁÉÍÓÚÜÑÇÀÈÌÒÙÂÊÎÔÛËÏÄÖŒÆ¡¿ªº°«»“”‘’„–—…•·€£§©®\xa0]*"
)
UNTEXTUAL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def read(data: bytes) -> Content:
    return Content([Page(1, clean(decode(data)))])


def prepare(data: bytes) -> None:
    """Import what a text in an old encoding needs: afterwards no module can be loaded any more."""
    if not _is_utf8(data):
        _detector()
        _all_codecs()


def decode(data: bytes, *, declared: str = "") -> str:
    """The letters of `data`: by its mark, by what it says of itself, as UTF-8, or by looking."""
    text = _decoded(data, declared)
    if text is None or UNTEXTUAL.search(text):
        raise Unreadable("not_text")
    return text


def _decoded(data: bytes, declared: str) -> str | None:
    marked = next((name for mark, name in BOMS if data.startswith(mark)), "")
    for name in filter(None, (marked, "utf-8", declared, "cp1252")):
        try:
            text = data.decode(name)
        except (UnicodeError, LookupError):
            continue
        if name != "cp1252" or name == declared or WESTERN.fullmatch(text):
            return text
    return _guessed(data)


def _guessed(data: bytes) -> str | None:
    best = _detector()(data).best()
    return None if best is None else str(best)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeError:
        return False
    return True


@cache
def _detector():  # type: ignore[no-untyped-def]
    from charset_normalizer import from_bytes

    return from_bytes


def _all_codecs() -> None:
    from encodings.aliases import aliases

    for name in set(aliases.values()):
        try:
            codecs.lookup(name)
        except LookupError:
            continue
