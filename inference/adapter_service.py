"""Keeps the adapters that an engine process has loaded what the database wants, and tells it how they are.

A thread looks each second. Nobody asks the process for anything: whoever promotes an adapter names it in the
database, and reads there when all processes have it.
"""

import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog
from django.db import Error as DatabaseFailure
from django.db import connection, connections, transaction
from django.utils import timezone

from inference.adapter_files import verify
from inference.adapters import folder_of, reported, wanted
from inference.engine.adapter_host import AdapterHost, Told, Wanted
from inference.engine.base_model import base_model, weights_folder
from inference.engine.load import LoadedModel, load_adapter
from inference.models import Adapter, AdapterLoad, EngineProcess
from inference.models.adapters import ERROR_LENGTH
from llmsite.core.ids import row_id

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
BEAT_SECONDS = 3.0
"""Between two signs of life; after LIVE_SECONDS without one the process is taken for dead."""
FORGET_AFTER = timedelta(days=1)
"""After so long the row of a process that did not end orderly goes."""


class AdapterService:
    """The adapters beside `model`, which is the base model at `path`, as the engine was given it."""

    def __init__(self, model: LoadedModel, *, path: str, models_root: Path) -> None:
        self._model = model
        self._path, self._models_root = path, models_root
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="adapter-service", daemon=True)
        self._report = Report(model.name)
        self.host = AdapterHost(self._load, changed=self._wake.set)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Let the answers under way fail, and say that this process is gone."""
        self._is_closed = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.host.close()

    def look(self) -> None:
        """One round: what is wanted, and how it is."""
        self.host.want(Wanted(row.name, row.sha256, row.base_sha256) for row in wanted())
        self._report.tell(self.host.told())
        reported()

    def _run(self) -> None:
        is_away = False
        while not self._is_closed:
            self._wake.clear()
            try:
                self.look()
                is_away = False
            except DatabaseFailure as error:
                # What is loaded goes on answering; the rows are told again once the database is back.
                if not is_away:
                    log.warning("adapters_not_looked_after", error=str(error))
                is_away = True
                connection.close()
            except Exception:
                log.exception("adapters_not_looked_after")
            self._wake.wait(LOOK_SECONDS)
        try:
            self._report.end()
        except DatabaseFailure as error:
            log.warning("engine_process_not_ended", error=str(error))
        connections.close_all()

    def _load(self, adapter: Wanted) -> LoadedModel:
        base = base_model(self._path, self._models_root)
        files = verify(folder_of(adapter.name), adapter.sha256, base_sha256=base.sha256)
        return load_adapter(adapter.name, files, weights_folder(base, self._models_root), self._model)


class Report:
    """What one engine process has told the database: that it lives, and how its adapters are."""

    def __init__(self, base_model: str) -> None:
        self.process: UUID = row_id()
        self._base_model = base_model
        self._told: dict[str, Told] = {}
        self._beat_at = float("-inf")

    def tell(self, told: dict[str, Told]) -> None:
        """Write down what has changed; and every few seconds that the process lives."""
        now = time.monotonic()
        if now - self._beat_at >= BEAT_SECONDS:
            self._beat()
            self._beat_at = now
        if told != self._told:
            self._write(told)
            self._told = dict(told)

    def end(self) -> None:
        EngineProcess.objects.filter(pk=self.process).delete()

    def _beat(self) -> None:
        now = timezone.now()
        if EngineProcess.objects.filter(pk=self.process).update(seen_at=now):
            return
        EngineProcess.objects.filter(seen_at__lt=now - FORGET_AFTER).delete()
        EngineProcess.objects.create(pk=self.process, base_model=self._base_model, seen_at=now)
        self._told = {}  # Whatever was told before is gone with the row.

    @transaction.atomic
    def _write(self, told: dict[str, Told]) -> None:
        loads = AdapterLoad.objects.filter(process=self.process)
        loads.exclude(adapter__name__in=told).delete()
        for adapter in Adapter.objects.filter(name__in=told):
            state, error = told[adapter.name]
            values = {"state": state, "error": error[:ERROR_LENGTH]}
            loads.update_or_create(process_id=self.process, adapter=adapter, defaults=values)
