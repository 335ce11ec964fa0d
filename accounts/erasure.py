"""Erasing a person: whatever names them goes from every store; the ledger and the audit log keep a pseudonym.

docs/data-map.md lists the stores. An upper app registers an eraser for its own (`register`). An erasure
that failed half-way has locked the person out already and can be run again; `unfinished` finds them.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT

from accounts.audit import record
from accounts.models import ApiKey, AuditEvent, RefreshToken, Session, Team, User
from accounts.models.audit import AuditKind
from llmsite.core.errors import ErasureUnfinished, LastAdministrator

log = structlog.get_logger("llmsite.erasure")

IDS_AT_ONCE = 500
"""Databases limit the parameters of one statement."""

REASON = "erasure"
"""Why an account is disabled, in the audit log, when its erasure begins."""

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


def erase(user: User, *, actor: User | None) -> Receipt:
    """Remove `user` and everything that names them.

    Raises LastAdministrator, and nothing is changed; ErasureUnfinished, and it has to be called again.
    It can take seconds, while answers of theirs are being stopped, so call it outside of a transaction.
    """
    lock_out(user, actor=actor)
    counts: Counter[str] = Counter()
    try:
        # The uppermost app first: what it keeps hangs on rows of those below.
        for eraser in reversed(_erasers):
            counts.update(eraser(user))
    except ErasureUnfinished as error:
        log.error("erasure_unfinished", user_id=user.pk, detail=error.data.get("detail"))
        raise
    with transaction.atomic():
        counts.update(_erase_account(user))
        # Nothing is left of one who was erased before, and that is no event.
        if any(counts.values()):
            record(AuditKind.ERASED, subject=user, actor=actor, counts=dict(counts))
    _forget_free_pages()
    return Receipt(user.pseudonym, dict(counts))


def unfinished() -> QuerySet[User]:
    """Those whose erasure has begun and has not come to its end; one who was enabled since is not of them."""
    switched = AuditEvent.objects.filter(
        subject=OuterRef("pseudonym"), kind__in=(AuditKind.DISABLED, AuditKind.ENABLED)
    )
    last_reason = Subquery(switched.order_by("-created_at").values(reason=KT("data__reason"))[:1])
    return (
        User.objects.alias(last_reason=last_reason).filter(is_active=False, last_reason=REASON).order_by("pk")
    )


@transaction.atomic
def lock_out(user: User, *, actor: User | None) -> None:
    """The beginning of an erasure, which is `unfinished` from here on: nobody signs in as `user` any more.

    Saving a disabled account ends its sign-ins and keys. Raises LastAdministrator.
    """
    require_another_administrator(user)
    # Read again and locked: `user` may have been erased, or locked out, since the caller read it.
    found = User.objects.select_for_update().filter(pk=user.pk).first()
    if found is None or unfinished().filter(pk=user.pk).exists():
        return
    # Also of one whom staff have disabled, for whom nobody could tell that an erasure has begun.
    user.is_active = False
    user.save(update_fields=["is_active"])
    record(AuditKind.DISABLED, subject=user, actor=actor, reason=REASON)


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
        "team_memberships": Team.members.through.objects.filter(user=user).delete()[0],
        "roles": User.groups.through.objects.filter(user=user).delete()[0],
    }
    # By a queryset, because `user` keeps its key and pseudonym for the event that follows.
    _, rows = User.objects.filter(pk=user.pk).delete()
    return counts | {"accounts": rows.get(User._meta.label, 0)}


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
