"""Removing what is past its time: a few rows at a time, so that nobody waits long who writes meanwhile."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Min
from django_tasks import task
from django_tasks_db.models import DBTaskResult

from accounts.audit import record
from accounts.models.audit import AuditKind
from llmsite.core.conflicts import retried
from llmsite.core.worker import checkpoint
from llmsite.retention.kinds import KINDS, TASKS, Kind

log = structlog.get_logger(__name__)

IDLE = -60
"""The priority of this work: whatever else there is to do goes first, between two transactions."""
PAUSE_SECONDS = 0.05
"""Between two of them: who waits for SQLite looks about this often."""


@dataclass(frozen=True, slots=True)
class Due:
    """What a run would remove of one kind now; `oldest` is None where that is nothing."""

    kind: Kind
    rows: int
    oldest: datetime | None


def preview() -> list[Due]:
    """What a run would do, of all kinds; of one that is kept for ever nothing is due."""
    return [_due(kind) for kind in (*KINDS, TASKS)]


def prune(*, pause: Callable[[], object] = lambda: None) -> dict[str, int]:
    """Remove what is past its time; how many rows of each kind. One event in the audit log tells of it.

    `pause` is called between transactions, and may raise to end it there.
    """
    removed: Counter[str] = Counter()
    try:
        for kind in KINDS:
            for count in _batches(kind) if kind.days else ():
                removed[kind.name] += count
                pause()
    finally:
        counts = {name: count for name, count in removed.items() if count}
        if counts:
            record(AuditKind.DATA_PRUNED, subject=None, actor=None, counts=counts)
            log.info("data_pruned", **counts)
    return counts


@task(priority=IDLE)
def prune_now() -> None:
    """What `ask_for_pruning` asks for."""
    prune(pause=_make_way)


def ask_for_pruning() -> None:
    """Have a worker remove what is past its time, unless one is about to, or all is kept for ever."""
    if not any(kind.days for kind in KINDS):
        return
    coming = DBTaskResult.objects.filter(task_path=prune_now.module_path, finished_at=None)
    if not coming.exists():
        prune_now.enqueue()


def _make_way() -> None:
    checkpoint()
    time.sleep(PAUSE_SECONDS)


def _due(kind: Kind) -> Due:
    if not kind.days:
        return Due(kind, 0, None)
    rows = kind.due_now()
    return Due(kind, rows.count(), rows.aggregate(oldest=Min(kind.moment))["oldest"])


def _batches(kind: Kind) -> Iterator[int]:
    """Remove all that is due, by primary key; how many rows each transaction took."""
    last: Any = None
    while True:
        rows = kind.due_now().order_by("pk")
        if last is not None:
            rows = rows.filter(pk__gt=last)
        if not (some := list(rows.values_list("pk", flat=True)[: kind.at_once])):
            return
        last = some[-1]
        # Somebody who deletes one of them may hold a row that this waits for, and wait for one of ours.
        yield retried(partial(_remove, kind, some))


def _remove(kind: Kind, some: list[Any]) -> int:
    with transaction.atomic():
        # Locked first, and looked at again: one that somebody has just come back to is not due any more.
        model = kind.due_now().model
        list(model._base_manager.select_for_update().filter(pk__in=some).values_list("pk", flat=True))
        return kind.remove(kind.due_now().filter(pk__in=some))
