"""Clearing the cache by hand, which the audit log tells."""

from asgiref.sync import async_to_sync

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from inference.cache.levels import clear_cache


def clear_for_all(*, actor: User) -> None:
    """Once this returns, no process tells an answer that was kept before."""
    record(AuditKind.CACHE_CLEARED, subject=None, actor=actor)
    async_to_sync(clear_cache)()
