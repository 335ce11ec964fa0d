"""Level 1: answers in the memory of this process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from inference.cache.answers import CachedAnswer

MOST_CHARACTERS = 32_000_000
"""Of all texts together. A character takes one to four bytes."""


class MemoryCache:
    """A dictionary of limited size; the answer that was asked for the longest time ago goes first."""

    def __init__(self, size: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, CachedAnswer]] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str) -> CachedAnswer | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry[0] <= self._clock():
                self._remove(key)
                return None
            self._entries.move_to_end(key)
            return entry[1]

    def keep(self, answer: CachedAnswer, *, seconds: float) -> None:
        if seconds <= 0 or self._size < 1:
            return
        with self._lock:
            self._remove(answer.key)
            self._entries[answer.key] = (self._clock() + seconds, answer)
            self._characters += answer.characters
            while len(self._entries) > self._size or self._characters > MOST_CHARACTERS:
                self._remove(next(iter(self._entries)))

    def forget(self, prefix: str = "") -> int:
        """Remove the answers whose key begins with `prefix`; returns how many."""
        with self._lock:
            gone = [key for key in self._entries if key.startswith(prefix)]
            for key in gone:
                self._remove(key)
        return len(gone)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._characters -= entry[1].characters
