"""Random ids, without asking the system for each.

`uuid.uuid4` reads sixteen bytes from the kernel every time, which takes longer than the rest of making an id;
here a page of the same randomness is read at once. No two threads get the same bytes, and no two processes:
a fork forgets what is left.
"""

import os
import threading
from uuid import UUID

PAGE = 4096


class _Source:
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""
        self._at = 0

    def take(self) -> bytes:
        with self._lock:
            if self._at >= len(self._bytes):
                self._bytes, self._at = os.urandom(PAGE), 0
            taken = self._bytes[self._at : self._at + 16]
            self._at += 16
        return taken


_source = _Source()
os.register_at_fork(after_in_child=_source.forget)


def new_uuid() -> UUID:
    """A random UUID (version 4). For names, not for secrets."""
    return UUID(bytes=_source.take(), version=4)
