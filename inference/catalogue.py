"""The models as every question finds them, without a query: rows in memory, at most a second old.

Which questions have a verified answer, and which answers have left the cache, is kept beside them, likewise.

The table `Version` counts each change. A process that is busy reads those counters twice a second, beside
its questions; one that was idle reads them before it answers. So a switch made anywhere is in force
everywhere within `MOST_SECONDS`, and a question to a busy process costs neither a query nor a thread.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error as DatabaseFailure

from inference.models import ChatModelConfig, EvictedAnswer, ModelFallback, VerifiedAnswer, Version
from inference.models.verified import Place
from inference.models.versions import version_bumped
from llmsite.core.background import in_any_thread, spawn
from llmsite.core.errors import ModelNotFound

log = structlog.get_logger("llmsite.catalogue")

REFRESH_SECONDS = 0.5
MOST_SECONDS = 1.0
"""How old what a question finds can be."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The active models and the verified answers' places at one moment. Its rows are shared and only read."""

    versions: Mapping[str, int]
    rows: Sequence[ChatModelConfig] = ()
    by_alias: Mapping[str, ChatModelConfig] = field(default_factory=dict)
    chains: Mapping[int, Sequence[ChatModelConfig]] = field(default_factory=dict)
    verified: Mapping[Place, UUID] = field(default_factory=dict)
    evicted: Mapping[str, float] = field(default_factory=dict)

    def named(self, alias: str | None, *, provider: str | None = None) -> ChatModelConfig:
        """As `ChatModelConfig.objects.named`. Raises ModelNotFound."""
        row = self._first(provider) if alias is None else self.by_alias.get(alias)
        if row is None or provider not in (None, row.provider):
            raise ModelNotFound(model=alias or provider or settings.DEFAULT_MODEL)
        return row

    def _first(self, provider: str | None) -> ChatModelConfig | None:
        rows = [row for row in self.rows if provider in (None, row.provider)]
        chosen = next((row for row in rows if row.is_default), None)
        if chosen is not None or provider is None:
            return chosen or self.by_alias.get(settings.DEFAULT_MODEL)
        return rows[0] if rows else None

    def fallbacks(self, model: ChatModelConfig) -> Sequence[ChatModelConfig]:
        """Who answers where `model` cannot, the first first."""
        return self.chains.get(model.pk, ())

    def version(self, name: str) -> int:
        return self.versions.get(name, 0)


class Catalogue:
    """The newest snapshot of this process."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._read_at = float("-inf")
        self._generation = 0
        self._refreshing: asyncio.Task[Snapshot] | None = None

    async def current(self) -> Snapshot:
        """The models as they were less than a second ago. Raises the database's error where it is away."""
        age = time.monotonic() - self._read_at
        if self._snapshot is not None and age < MOST_SECONDS:
            if age >= REFRESH_SECONDS:
                self._refresh()
            return self._snapshot
        return await asyncio.shield(self._refresh())

    def has_evicted(self, key: str, *, created: float) -> bool:
        """Whether what was kept under `key` at that Unix time was taken out of the cache since."""
        evicted = self._snapshot.evicted if self._snapshot is not None else {}
        return bool(evicted) and created <= evicted.get(key, -math.inf)

    def forget(self, **_kwargs: Any) -> None:
        """Read anew before the next question; what is being read just now may be old already."""
        self._generation += 1
        self._read_at = float("-inf")

    def reset(self) -> None:
        """As in a new process; for tests."""
        self.__init__()  # type: ignore[misc]

    def _refresh(self) -> "asyncio.Task[Snapshot]":
        task = self._refreshing
        # A task of a loop that has ended is nobody's.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._refreshing = spawn(self._read())
            task.add_done_callback(_log_failure)
        return task

    async def _read(self) -> Snapshot:
        while True:
            generation, began = self._generation, time.monotonic()
            snapshot = await in_any_thread(_read_snapshot)(self._snapshot)
            if generation == self._generation:
                break
        self._snapshot, self._read_at = snapshot, began
        return snapshot


def _log_failure(task: "asyncio.Task[Snapshot]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("models_not_read", error=repr(error), database=isinstance(error, DatabaseFailure))


def _read_snapshot(known: Snapshot | None) -> Snapshot:
    """What the database says now: the counters, and the rows where those have changed."""
    # The counters first: rows that are newer than their counter are only read once more.
    versions = Version.objects.numbers()

    def is_known(name: str) -> bool:
        return known is not None and known.version(name) == versions.get(name, 0)

    verified = known.verified if known and is_known(Version.VERIFIED) else VerifiedAnswer.objects.places()
    evicted = known.evicted if known and is_known(Version.EVICTED) else EvictedAnswer.objects.times()
    if known is not None and is_known(Version.MODELS):
        return replace(known, versions=versions, verified=verified, evicted=evicted)
    rows = list(ChatModelConfig.objects.active().order_by("alias"))
    by_pk = {row.pk: row for row in rows}
    chains: dict[int, list[ChatModelConfig]] = {}
    for link in ModelFallback.objects.order_by("model", "position"):
        if link.fallback_id in by_pk:
            chains.setdefault(link.model_id, []).append(by_pk[link.fallback_id])
    return Snapshot(versions, rows, {row.alias: row for row in rows}, chains, verified, evicted)


catalogue = Catalogue()
version_bumped.connect(catalogue.forget, dispatch_uid="inference.catalogue.forget")
