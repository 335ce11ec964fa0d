"""Credentials that were checked a moment ago, so that a busy program does not cost a query a request.

The database is the truth. A credential is believed for `KEEP_SECONDS`, which is therefore the longest
that one which another process has ended lives on here; what this process ends is forgotten at once.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import transaction

KEEP_SECONDS = 3.0
MOST = 10_000
"""How many are kept; the one that was checked first goes first."""


class RecentCredentials:
    """Presented tokens and what they proved. Only the memory of this process ever holds them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checked: dict[str, tuple[float, Any]] = {}
        self._generation = 0
        self._lock = threading.Lock()

    def find(self, token: str) -> Any | None:
        """What `token` proved within the last seconds; None where it has to be checked."""
        known = self._checked.get(token)
        if known is None or known[0] <= self._clock():
            return None
        return known[1]

    @property
    def generation(self) -> int:
        """Changes with each `forget`; read it before a check and hand it to `keep`."""
        return self._generation

    def keep(self, token: str, credential: Any, *, generation: int, until: float | None = None) -> None:
        """Believe `token` for a while, but not beyond `until` seconds from now.

        A check that was under way while something was revoked may have read the old state: it is not kept.
        """
        lifetime = KEEP_SECONDS if until is None else min(KEEP_SECONDS, until)
        with self._lock:
            if generation != self._generation or lifetime <= 0:
                return
            self._checked.pop(token, None)
            if len(self._checked) >= MOST:
                self._checked.pop(next(iter(self._checked)))
            self._checked[token] = (self._clock() + lifetime, credential)

    def forget(self) -> None:
        """Believe nothing any more; called whenever something was revoked in this process."""
        with self._lock:
            self._generation += 1
            self._checked.clear()


recent_credentials = RecentCredentials()


def forget_what_changed(*_args: Any, **_kwargs: Any) -> None:
    """Call it where rights or credentials change, also as a receiver of a signal."""
    recent_credentials.forget()
    # Again once others can see the change: a check in between has read the old state.
    transaction.on_commit(recent_credentials.forget)
