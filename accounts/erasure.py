"""Erasing a person: whatever names them goes from every store; the ledger and the audit log keep a pseudonym.

docs/data-map.md lists the stores. An upper app registers an eraser for its own (`register`). An erasure
that failed half-way has locked the person out already and can be run again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.http import HttpRequest

from accounts.audit import record
from accounts.models import ApiKey, RefreshToken, Session, Team, User
from accounts.models.audit import AuditKind
from llmsite.core.errors import LastAdministrator

log = structlog.get_logger("llmsite.erasure")

IDS_AT_ONCE = 500
"""Databases limit the parameters of one statement."""

Eraser = Callable[[User], dict[str, int]]

_erasers: list[Eraser] = []


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed: how many rows or entries of each store."""

    pseudonym: UUID
    counts: dict[str, int]


def register(eraser: Eraser) -> None:
    """Let an upper app erase what it keeps of a person; it answers with the count of each store.

    An eraser may take seconds, runs outside of a transaction, and does the rest when it is called again.
    """
    _erasers.append(eraser)


def erase(user: User, *, actor: User | None, request: HttpRequest | None = None) -> Receipt:
    """Remove `user` and everything that names them.

    Raises LastAdministrator, and nothing is changed; ErasureUnfinished, and it has to be called again.
    It can take seconds, while answers of theirs are being stopped, so call it outside of a transaction.
    """
    _lock_out(user, actor=actor, request=request)
    counts: Counter[str] = Counter()
    for eraser in _erasers:
        counts.update(eraser(user))
    with transaction.atomic():
        counts.update(_erase_account(user))
        receipt = Receipt(user.pseudonym, dict(counts))
        record(AuditKind.ERASED, subject=user, actor=actor, request=request, counts=receipt.counts)
    _forget_free_pages()
    return receipt


@transaction.atomic
def _lock_out(user: User, *, actor: User | None, request: HttpRequest | None) -> None:
    """From here on nobody signs in as `user`: saving a disabled account ends its sign-ins and keys."""
    require_another_administrator(user)
    if not user.is_active:
        return
    user.is_active = False
    user.save(update_fields=["is_active"])
    record(AuditKind.DISABLED, subject=user, actor=actor, request=request, reason="erasure")


def require_another_administrator(user: User) -> None:
    """Raises LastAdministrator where nobody could run the site without `user`. Call it in a transaction."""
    # Locked, so that of two who go at the same moment the second sees that the first has gone.
    superusers = User.objects.select_for_update().filter(is_superuser=True, is_active=True).order_by("pk")
    if {other.pk for other in superusers} == {user.pk}:
        raise LastAdministrator


def _erase_account(user: User) -> dict[str, int]:
    sessions, keys = Session.objects.filter(user=user), ApiKey.objects.filter(user=user)
    own_teams = Team.objects.filter(members=user).exclude(
        pk__in=Team.objects.filter(members__in=User.objects.exclude(pk=user.pk)).values("pk")
    )
    log = sum(erase_admin_log(rows) for rows in (sessions, keys, own_teams, User.objects.filter(pk=user.pk)))
    counts = {
        "admin_log": log + LogEntry.objects.filter(user=user).delete()[0],
        "refresh_tokens": RefreshToken.objects.filter(session__user=user).delete()[0],
        "sign_ins": sessions.delete()[0],
        "api_keys": keys.delete()[0],
        "teams_of_nobody_else": sum(team.delete()[0] and 1 for team in own_teams),
        "team_memberships": user.teams.count(),
        "roles": user.groups.count(),
    }
    user.teams.clear()
    # By a queryset, because `user` keeps its key and pseudonym for the event that follows.
    User.objects.filter(pk=user.pk).delete()
    return counts | {"accounts": 1}


def erase_admin_log(rows: models.QuerySet) -> int:
    """Delete what the admin's own log says about `rows`: it keeps their names as text. Returns how many."""
    entries = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(rows.model))
    if not entries.exists():
        return 0
    ids = [str(pk) for pk in rows.values_list("pk", flat=True)]
    parts = (ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE))
    return sum(entries.filter(object_id__in=part).delete()[0] for part in parts)


def _forget_free_pages() -> None:
    """SQLite overwrites what is deleted (`secure_delete` in the settings), but not in its write-ahead log."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        is_busy, *_ = cursor.fetchone()
    if is_busy:
        # Somebody has been reading for longer than SQLite waits; the next checkpoint empties it.
        log.warning("write_ahead_log_not_emptied")
