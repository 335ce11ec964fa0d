"""What was closed since a backup was made stays closed when it is restored.

The audit log of the site is not taken back by a restore, and names who was erased; people who were
disabled, keys that were revoked and consents that were taken back are read off the tables before they are
replaced, as is what else was taken (`taken`) or narrowed (`narrowed`). For a database that is lost,
`--erasures` takes a list from elsewhere.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone

from accounts import erasure
from accounts.audit import acting, record
from accounts.models import ApiKey, AuditEvent, User
from accounts.models.audit import AuditKind
from embeddings.at_hand import model_process
from embeddings.errors import EncoderError
from embeddings.models import Collection
from llmsite.backup.narrowed import Narrowed, narrow_again, narrowed_now
from llmsite.backup.refusal import Refused
from llmsite.backup.taken import Taken, take_again, taken_now
from llmsite.core.errors import LastAdministrator, SiteError


@dataclass(slots=True)
class Closed:
    """People by their pseudonyms, keys by their public ids."""

    disabled: set[UUID] = field(default_factory=set)
    unwilling: set[UUID] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    erased: set[UUID] = field(default_factory=set)
    """Of a list from elsewhere; those of the audit log are found there."""
    taken: Taken = field(default_factory=taken_now)
    narrowed: Narrowed = field(default_factory=narrowed_now)


def closed_now(erasures: Path | None) -> Closed:
    """As the site has it, with the people of a list. Raises Refused where that cannot be read."""
    people = User.objects.all()
    return Closed(
        disabled=set(people.filter(is_active=False).values_list("pseudonym", flat=True)),
        unwilling=set(people.filter(training_consent_at=None).values_list("pseudonym", flat=True)),
        revoked=set(ApiKey.objects.exclude(revoked_at=None).values_list("public_id", flat=True)),
        erased=set(_listed(erasures)) if erasures else set(),
    )


def close(closed: Closed) -> tuple[dict[str, int], list[str]]:
    """Close again what the rows of a backup have opened, in the transaction that brings them.

    Those to be erased are locked out; `erase` does the rest. Gives how many of each kind are as they were
    before, and sentences on what is left to be done.
    """
    problems = _lock_out(closed.erased)
    kept = _shut(closed)
    # After those who were erased are locked out, who have been administrators perhaps.
    for more, told in (take_again(closed.taken), _narrow(closed.narrowed)):
        kept += more
        problems += told
    return dict(kept), problems


def _narrow(narrowed: Narrowed) -> tuple[Counter[str], list[str]]:
    with acting(None):
        return narrow_again(narrowed)


def _lock_out(erased: set[UUID]) -> list[str]:
    """Sentences on those of whom that could not be done."""
    told = AuditEvent.objects.filter(kind=AuditKind.ERASED).values_list("subject", flat=True)
    listed = set(filter(None, told))
    # So that the list is whole for the next restore, also of those who are not in this backup.
    for pseudonym in erased - listed:
        AuditEvent.objects.create(kind=AuditKind.ERASED, subject=pseudonym, data={"source": "list"})
    problems = []
    for user in _people(listed | erased):
        try:
            erasure.lock_out(user, actor=None)
        except LastAdministrator:
            problems.append(
                f"{user.pseudonym} was erased, and is the only administrator of this backup: make another "
                "one, then run manage.py erase_user."
            )
    return problems


def _shut(closed: Closed) -> Counter[str]:
    """People who are disabled, consents and keys that are taken back."""
    kept: Counter[str] = Counter()
    for user in _people(closed.disabled):
        if user.is_active:
            user.is_active = False
            user.save(update_fields=["is_active"])
            record(AuditKind.DISABLED, subject=user, actor=None, reason="restore")
            kept["disabled"] += 1
    for user in _people(closed.unwilling):
        willing = User.objects.filter(pk=user.pk, training_consent_at__isnull=False)
        kept["consents"] += willing.update(training_consent_at=None)
    for key in ApiKey.objects.filter(revoked_at=None):
        if key.public_id in closed.revoked:
            kept["keys"] += ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    return kept


def erase_again() -> tuple[int, list[str]]:
    """Finish the erasures that `close` has begun: how many people, and sentences on those that are left."""
    people = list(erasure.unfinished())
    problems: list[str] = []
    with ExitStack() as stack:
        if Collection.objects.filter(owner__in=people).exists():
            try:
                stack.enter_context(model_process())
            except EncoderError as error:
                problems.append(f"The indexes cannot be reached: {error}")
        for user in people:
            try:
                erasure.erase(user, actor=None)
            except (SiteError, OSError, DatabaseError) as error:
                reason = error.data.get("detail") if isinstance(error, SiteError) else str(error)
                reason = reason or type(error).__name__
                problems.append(
                    f"{user.pseudonym} is locked out, and not erased yet ({reason}): run manage.py "
                    "erase_user --unfinished."
                )
    return len(people), problems


def _people(pseudonyms: set[UUID]) -> Iterator[User]:
    for user in User.objects.order_by("pk").iterator():
        if user.pseudonym in pseudonyms:
            yield user


def _listed(path: Path) -> Iterator[UUID]:
    """The pseudonyms in a file: one a line, or the lines of `manage.py export_audit`."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip() and (found := _pseudonym(line.strip(), number)) is not None:
                    yield found
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {error}") from error


def _pseudonym(line: str, number: int) -> UUID | None:
    """None in a line on something else."""
    try:
        if not line.startswith("{"):
            return UUID(line)
        event = json.loads(line)
        return UUID(event["subject"]) if event["kind"] == AuditKind.ERASED else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refused(
            f"Line {number} of the list of erasures is no pseudonym and no event of the audit log."
        ) from error
