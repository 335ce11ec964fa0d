"""Sliding windows in the memory of one process: exact, safe for threads, of bounded size."""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

from accounts.limits.buckets import Bucket, Hit

SECOND = 1_000_000_000
MOST_BUCKETS = 50_000
"""How many are kept of one length of window; the idlest goes first."""


class LocalLimits:
    """Counts the same hits as the script in Redis, by the same rules."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._windows: dict[float, _Window] = {}
        self._lock = threading.Lock()

    def hit(self, hits: Sequence[Hit]) -> list[Bucket]:
        """Count all of `hits`, or none where one of their buckets is full; the buckets afterwards."""
        with self._lock:
            now = self._clock()
            windows = [self._window(hit.rate.seconds) for hit in hits]
            buckets = [window.look(hit, now) for window, hit in zip(windows, hits, strict=True)]
            if any(bucket.wait for bucket in buckets):
                return buckets
            for window, hit in zip(windows, hits, strict=True):
                window.count(hit.key, now)
            return [bucket.counted() for bucket in buckets]

    def __len__(self) -> int:
        return sum(len(window) for window in self._windows.values())

    def clear(self) -> None:
        with self._lock:
            self._windows.clear()

    def _window(self, seconds: float) -> "_Window":
        if seconds not in self._windows:
            self._windows[seconds] = _Window(seconds)
        return self._windows[seconds]


class _Window:
    """All buckets of one length, the idlest first: so the first is also the first to become empty.

    Times are whole nanoseconds: no rounding can make a bucket look full and free at once.
    """

    def __init__(self, seconds: float) -> None:
        self._length = round(seconds * SECOND)
        self._buckets: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def look(self, hit: Hit, now: int) -> Bucket:
        times = self._buckets.get(hit.key, [])
        del times[: bisect_right(times, now - self._length)]
        size, count = len(times), hit.rate.count
        wait = times[size - count] + self._length - now if size >= count else 0
        reset = (times[0] if times else now) + self._length - now
        return Bucket(hit.rate, size, reset / SECOND, wait / SECOND)

    def count(self, key: str, now: int) -> None:
        times = self._buckets.pop(key, [])
        times.append(now)
        self._make_room(now)
        self._buckets[key] = times

    def _make_room(self, now: int) -> None:
        # One bucket comes at a time and up to two empty ones go, so they cannot gather.
        for _ in range(2):
            if self._buckets and self._is_empty(next(iter(self._buckets)), now):
                self._forget_idlest()
        if len(self._buckets) >= MOST_BUCKETS:
            self._forget_idlest()

    def _is_empty(self, key: str, now: int) -> bool:
        times = self._buckets[key]
        return not times or times[-1] <= now - self._length

    def _forget_idlest(self) -> None:
        del self._buckets[next(iter(self._buckets))]
