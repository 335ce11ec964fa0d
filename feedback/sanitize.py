"""What people write about answers, made fit to be kept.

Pages escape whatever they show; this is for all that reads these texts elsewhere, from a spreadsheet to a
model. Nothing that was written is lost: markup stands as text, and code in Markdown stays as it is.
"""

import html
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator

import bleach
from bleach.html5lib_shim import HTML_TAGS
from django.utils.translation import gettext as _

from llmsite.core.errors import InvalidInput

_LINE_ENDS = re.compile(r"\r\n?")
# Looked for apart: one expression for whole blocks would read to the end again for each that is open.
_OPENS = re.compile(r"^ {0,3}(?:```|~~~)[^\n]*\n", re.MULTILINE)
_CLOSES = re.compile(r"^ {0,3}(?:```|~~~)[ \t]*$", re.MULTILINE)
_CODE_IN_LINE = re.compile(r"(`[^`\n]+`)")
_ELEMENTS = "|".join(sorted({*HTML_TAGS, "frame", "frameset", "image", "marquee", "math", "svg"}))
# End tags, comments and the like; elements; whatever would listen to events. Not x<y, nor List<String>.
_MARKUP = re.compile(rf"<(?=[/!?]|(?:{_ELEMENTS})\b|[a-z][^<]*\bon\w+\s*=)", re.IGNORECASE)
_SPACES_OF_CONTROL = frozenset("\t\n\r")


def sanitize(text: str, *, limit: int, field: str | None = None) -> str:
    """`text` as it may be kept: of at most `limit` characters, without control characters, markup as text.

    Raises InvalidInput. What has been through here stays the same when it comes again.
    """
    if len(text) > limit:
        reason = _("This is longer than %(limit)s characters.") % {"limit": limit}
        raise InvalidInput(field=field, reason=reason)
    _require_characters(text, field)
    parts = _code_apart(_LINE_ENDS.sub("\n", text))
    parts[::2] = [_without_markup(part) for part in parts[::2]]
    return "".join(parts).strip()


def _code_apart(text: str) -> list[str]:
    """The text in pieces: every second one is code, in a fenced block or within a line."""
    parts: list[str] = []
    at = 0
    for start, end in _blocks(text):
        parts += [*_CODE_IN_LINE.split(text[at:start]), text[start:end]]
        at = end
    return [*parts, *_CODE_IN_LINE.split(text[at:])]


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where fenced blocks begin and end. One that is not closed is none."""
    closing = list(_CLOSES.finditer(text))
    starts = [line.start() for line in closing]
    end = 0
    for opening in _OPENS.finditer(text):
        if opening.start() < end:
            continue
        number = bisect_left(starts, opening.end())
        if number == len(starts):
            return
        end = closing[number].end()
        yield opening.start(), end


def _require_characters(text: str, field: str | None) -> None:
    found = next((one for one in text if not _is_character(one)), None)
    if found is None:
        return
    reason = _("The text has something in it that is no character (U+%(code)s).") % {
        "code": f"{ord(found):04X}"
    }
    raise InvalidInput(field=field, reason=reason)


def _is_character(one: str) -> bool:
    if one in _SPACES_OF_CONTROL:
        return True
    is_none = ord(one) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(one) <= 0xFDEF
    return not is_none and unicodedata.category(one) not in ("Cc", "Cs")


def _without_markup(text: str) -> str:
    """Tags as text; what only looks like one to a machine stays."""
    text = _MARKUP.sub("&lt;", text)
    return text if _is_plain(text) else text.replace("<", "&lt;")


def _is_plain(text: str) -> bool:
    """Whether a reader of HTML would come to the end without leaving anything out."""
    if "<" not in text:
        return True
    read = bleach.clean(text.replace("&", "&amp;"), tags=frozenset(), attributes={}, strip_comments=False)
    return read == html.escape(text, quote=False)
