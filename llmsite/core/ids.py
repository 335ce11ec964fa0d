"""Ids, without asking the system for each.

`uuid.uuid4` reads sixteen bytes from the kernel every time, which takes longer than the rest of making an id;
here a page of the same randomness is read at once. No two threads get the same bytes, and no two processes:
a fork forgets what is left.
"""

import os
import threading
import time
from datetime import datetime
from uuid import UUID

PAGE = 4096

# Version 7 in the four bits behind the time, and the variant in the two that begin the last eight bytes.
_TIME_BIT, _VERSION_BIT, _VARIANT_BIT = 80, 76, 62
_FIXED = 7 << _VERSION_BIT | 2 << _VARIANT_BIT
_RANDOM = (1 << _TIME_BIT) - 1 & ~(15 << _VERSION_BIT | 3 << _VARIANT_BIT)


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


def row_id() -> UUID:
    """The id of a new row (UUID version 7, RFC 9562): milliseconds since 1970, then 74 random bits.

    Rows of one time stand together in every index. With random ids each insert changes another page of it,
    and the larger the table is, the more pages a transaction writes.
    """
    random = int.from_bytes(_source.take()[:10], "big") & _RANDOM
    return UUID(int=time.time_ns() // 1_000_000 << _TIME_BIT | _FIXED | random)


def first_id_at(moment: datetime) -> UUID:
    """No id of a row that was made at `moment` or later is below this one."""
    return UUID(int=int(moment.timestamp() * 1000) << _TIME_BIT | _FIXED)
