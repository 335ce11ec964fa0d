"""Shows every few seconds that somebody is still at work, from a thread of its own."""

import threading
from collections.abc import Callable

import structlog
from django.db import connections

log = structlog.get_logger("llmsite.beats")


class Beats:
    """Calls `beat` every `seconds` while the block runs. The thread has a connection of its own."""

    def __init__(self, beat: Callable[[], object], *, seconds: float) -> None:
        self._beat = beat
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="beats", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        try:
            while not self._over.wait(self._seconds):
                try:
                    self._beat()
                except Exception as error:
                    # The database may be away for a moment; the next beat tries again.
                    log.warning("beat_failed", error=type(error).__name__)
                    connections.close_all()
        finally:
            connections.close_all()
