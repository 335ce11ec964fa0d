"""Pieces of an answer without what is no character, which no database takes and no door can send.

JSON can carry half a surrogate pair, and NUL. A provider that cuts an answer into pieces by UTF-16 sends the
halves of one character apart.
"""

import re
from dataclasses import replace

from inference.providers.base import Finished, ProviderEvent, TextDelta, ToolCallDelta

REPLACEMENT = "\ufffd"
_HALF = re.compile("[\ud800-\udfff]")
_TEXT = -1
"""The place of the text, where a call's place is its index."""


class Characters:
    """Reads the events of one answer: joins halves that belong together, replaces what is left of them."""

    def __init__(self) -> None:
        self._first_halves: dict[int, str] = {}
        """What the last piece at a place ended with, where it may belong to the next one."""

    def whole(self, event: ProviderEvent) -> tuple[ProviderEvent, ...]:
        """What is to be told in place of `event`; nothing, where it was half a character."""
        if isinstance(event, Finished):
            return (*self._rest(), replace(event, stop_sequence=whole_text(event.stop_sequence)))
        if not self._first_halves and _is_plain(event):
            return (event,)
        if isinstance(event, TextDelta):
            text = self._join(_TEXT, event.text)
            return (replace(event, text=text),) if text else ()
        arguments = self._join(event.index, event.arguments)
        return (ToolCallDelta(event.index, whole_text(event.id), whole_text(event.name), arguments),)

    def _join(self, place: int, text: str) -> str:
        text = self._first_halves.pop(place, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._first_halves[place] = text[-1]
            text = text[:-1]
        return whole_text(text)

    def _rest(self) -> list[ProviderEvent]:
        """For halves whose other half never came."""
        return [
            TextDelta(REPLACEMENT) if place == _TEXT else ToolCallDelta(place, arguments=REPLACEMENT)
            for place in self._first_halves
        ]


def whole_text(text: str) -> str:
    """`text` with pairs of halves joined, and other halves and NUL replaced."""
    if _has_only_characters(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\0", REPLACEMENT)


def _is_plain(event: TextDelta | ToolCallDelta) -> bool:
    if isinstance(event, TextDelta):
        return _has_only_characters(event.text)
    return all(map(_has_only_characters, (event.arguments, event.id, event.name)))


def _has_only_characters(text: str) -> bool:
    # Whether a text is ASCII is known without reading it.
    return "\0" not in text and (text.isascii() or not _HALF.search(text))
