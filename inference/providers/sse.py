"""Server-sent events, parsed from bytes as they arrive."""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_EVENT_BYTES = 1 << 20
"""A single event above this is no piece of an answer; it is refused before it fills the memory."""

# A carriage return at the very end may be the first half of a line end, so it waits for the next byte.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


class EventTooLarge(ValueError):
    """An event did not end within `MAX_EVENT_BYTES`."""


class Event(NamedTuple):
    """One event: its name (`message` unless it has one) and its data."""

    name: str
    data: str


class EventParser:
    """An incremental parser: any split of the same bytes gives the same events.

    Follows https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6, but for
    ids, retry times and a byte order mark, none of which means anything in the answer to a POST.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, received: bytes) -> Iterator[Event]:
        """Yield the events that `received` completes. Raises EventTooLarge and UnicodeDecodeError."""
        if self._is_one(received):
            yield Event("message", received[6:-2].decode())
            return
        text = self._rest + received
        if b"\r" in text:
            *lines, self._rest = _LINE_END.split(text)
        else:
            *lines, self._rest = text.split(b"\n")
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                yield Event(self._name or "message", "\n".join(self._data))
            if not line:
                self._name, self._data, self._size = "", [], 0
        self._check(self._size + len(self._rest))

    def _is_one(self, received: bytes) -> bool:
        """Whether this is one whole event of one line, as most model servers send each token."""
        if self._rest or self._size or self._name or b"\r" in received:
            return False
        is_one_line = received.find(b"\n") == len(received) - 2 < MAX_EVENT_BYTES
        return is_one_line and received.startswith(b"data: ") and received.endswith(b"\n\n")

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field not in (b"data", b"event"):
            return
        self._size += len(line)
        self._check(self._size)
        # Decoded by whole lines, so a character that arrives in two segments is never split.
        text = value.removeprefix(b" ").decode()
        if field == b"data":
            self._data.append(text)
        else:
            self._name = text

    def _check(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")
