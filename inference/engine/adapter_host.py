"""The adapters of one process: loaded while others answer, and let go once nobody wants them any more.

An adapter is a model of its own on the general engine, with its weights added to a copy of the base model's.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from inference.adapter_files import AdapterRefused
from inference.engine.load import LoadedModel
from inference.engine.runner import EngineError
from llmsite.core.model_process import RequestError

log = structlog.get_logger(__name__)

LINGER_SECONDS = 10.0
"""How long one stays that nobody wants: a web process that read the models a moment ago still asks for it."""
RETRY_SECONDS = 30.0
RETRY_AFTER = 1


class Wanted(NamedTuple):
    """An adapter that is to be loaded, and what its files have to be."""

    name: str
    sha256: str
    base_sha256: str


class Told(NamedTuple):
    """How an adapter is: `loading`, `ready`, or `failed` with the reason."""

    state: str
    error: str = ""


@dataclass(slots=True, eq=False)
class _Entry:
    wanted: Wanted
    model: LoadedModel | None = None
    error: str = ""
    failed_at: float = 0.0
    unwanted_since: float | None = None
    is_leaving: bool = False
    """It is told no more, and goes with the next look if still nobody wants it."""

    @property
    def told(self) -> Told:
        if self.error:
            return Told("failed", self.error)
        return Told("ready" if self.model else "loading")


class AdapterHost:
    """See above. `want` is called by one thread, everything else by any.

    `load` makes a model of an adapter, in a thread of the host's own. `changed` is called there afterwards.
    """

    def __init__(
        self,
        load: Callable[[Wanted], LoadedModel],
        *,
        changed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._gone: list[LoadedModel] = []
        self._is_closed = False
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="adapters")

    def want(self, adapters: Iterable[Wanted]) -> None:
        """Load what is new among these, and let go of what has long not been among them."""
        now, wanted = self._clock(), {one.name: one for one in adapters}
        with self._lock:
            for name, entry in list(self._entries.items()):
                self._look_at(entry, is_wanted=entry.wanted == wanted.get(name), now=now)
            new = [_Entry(one) for name, one in wanted.items() if name not in self._entries]
            self._entries.update({entry.wanted.name: entry for entry in new})
        for entry in new:
            self._loading.submit(self._fill, entry)
        self._close_idle()

    def find(self, name: str) -> LoadedModel | None:
        """The adapter `name`; None where nobody wants it. Raises RequestError while it cannot answer."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.model:
            return entry.model
        if entry.error:
            raise _away(f"The adapter {name!r} cannot be loaded; the log says why.", "adapter_failed")
        raise _away(f"The adapter {name!r} is being loaded. Try again in a moment.", "adapter_loading")

    def models(self) -> list[LoadedModel]:
        """Those that can answer."""
        with self._lock:
            return [entry.model for entry in self._entries.values() if entry.model]

    def told(self) -> dict[str, Told]:
        """How each adapter is that stays."""
        with self._lock:
            return {name: entry.told for name, entry in self._entries.items() if not entry.is_leaving}

    def close(self) -> None:
        """End all of them; what is unfinished fails."""
        with self._lock:
            self._is_closed = True
            models = [entry.model for entry in self._entries.values() if entry.model]
            self._entries.clear()
        self._loading.shutdown(cancel_futures=True)
        for model in [*models, *self._gone]:
            model.scheduler.close()

    def _look_at(self, entry: _Entry, *, is_wanted: bool, now: float) -> None:
        if is_wanted:
            entry.unwanted_since, entry.is_leaving = None, False
            if entry.error and now - entry.failed_at >= RETRY_SECONDS:
                self._drop(entry)
        elif entry.unwanted_since is None:
            entry.unwanted_since = now
        if entry.unwanted_since is None:
            return
        if entry.is_leaving or entry.error:
            self._drop(entry)
        elif now - entry.unwanted_since >= LINGER_SECONDS:
            entry.is_leaving = True

    def _drop(self, entry: _Entry) -> None:
        del self._entries[entry.wanted.name]
        if entry.model:
            self._gone.append(entry.model)

    def _close_idle(self) -> None:
        """End those that have left once their last answer has ended."""
        idle = [m for m in self._gone if not m.scheduler.slots_in_use and not m.scheduler.queued]
        self._gone = [model for model in self._gone if model not in idle]
        for model in idle:
            model.scheduler.close()
            log.info("adapter_unloaded", adapter=model.name)

    def _fill(self, entry: _Entry) -> None:
        began = time.monotonic()
        model, error = self._loaded(entry.wanted)
        with self._lock:
            is_kept = self._entries.get(entry.wanted.name) is entry
            entry.model, entry.error, entry.failed_at = model, error, self._clock()
        if model and not is_kept:
            model.scheduler.close()
        elif model:
            log.info("adapter_loaded", adapter=model.name, seconds=round(time.monotonic() - began, 2))
        self._changed()

    def _loaded(self, wanted: Wanted) -> tuple[LoadedModel | None, str]:
        """The model, or why there is none."""
        try:
            return self._load(wanted), ""
        except AdapterRefused as refused:
            log.error("adapter_refused", adapter=wanted.name, code=refused.code, reason=str(refused))
            return None, str(refused)
        except EngineError as error:
            log.error("adapter_not_loaded", adapter=wanted.name, reason=str(error))
            return None, str(error)
        except Exception as error:
            # Of whatever kind: the models that are there go on.
            log.exception("adapter_not_loaded", adapter=wanted.name)
            return None, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _away(message: str, code: str) -> RequestError:
    return RequestError(message, status=503, code=code, retry_after=RETRY_AFTER)
