"""Transactions that the database gave up because of another one, and that may well succeed the next time."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import OperationalError

log = structlog.get_logger("llmsite.conflicts")

T = TypeVar("T")

WAITS = (0.02, 0.1, 0.3)
"""Seconds before the second, the third and the fourth try."""
_CONFLICTS = {"40001", "40P01"}
"""PostgreSQL's codes of a serialization failure and of a deadlock. Who waited for a lock waits no more."""


def retried(work: Callable[[], T]) -> T:
    """What `work`, one whole transaction, comes to; tried three times more where another was in its way.

    Raises OperationalError where it is so each time. Call it outside of transactions.
    """
    for wait in WAITS:
        try:
            return work()
        except OperationalError as error:
            if not _is_conflict(error):
                raise
            log.info("transaction_repeated", reason=str(error).split("\n")[0], after=wait)
            time.sleep(wait)
    return work()


def _is_conflict(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) in _CONFLICTS
