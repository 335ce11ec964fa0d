"""Whether the event loop itself was late: then a deadline that passed says nothing of who was waited for."""

import asyncio
import time
from weakref import WeakKeyDictionary

BEAT_SECONDS = 0.1
LATE_SECONDS = 0.25
"""Connecting takes up to a dozen turns of the loop. With turns as long as this, a deadline of some seconds
passes while everything that was waited for is there."""


class Watch:
    """From when it is made until it is closed: was the loop late? All of a loop's watches share one timer."""

    def __init__(self) -> None:
        self._beat = _beats.setdefault(asyncio.get_running_loop(), _Beat())
        self._began = time.monotonic()
        self._is_open = True
        self._beat.join()

    @property
    def was_late(self) -> bool:
        """To be asked while it is open."""
        return self._beat.last_late() >= self._began

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._beat.leave()


class _Beat:
    """A timer that notes when it rings late; it runs while somebody watches."""

    def __init__(self) -> None:
        self._watches = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._last_late = 0.0

    def join(self) -> None:
        self._watches += 1
        if self._timer is None:
            self._set()

    def leave(self) -> None:
        self._watches -= 1
        if not self._watches and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def last_late(self) -> float:
        # The timer that is overdue at this moment may come after who asks.
        now = time.monotonic()
        if now - self._due > LATE_SECONDS:
            self._last_late = now
        return self._last_late

    def _set(self) -> None:
        # Not the loop's own clock, which may stand still during a turn.
        self._due = time.monotonic() + BEAT_SECONDS
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._ring)

    def _ring(self) -> None:
        self.last_late()
        self._set()


_beats: WeakKeyDictionary[asyncio.AbstractEventLoop, _Beat] = WeakKeyDictionary()
