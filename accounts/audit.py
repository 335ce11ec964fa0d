"""Writing and reading the audit log: one event for everything that changes who may do what.

An event is written in the transaction of the change that it tells, so neither exists without the other.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db.models import Q, QuerySet

from accounts.limits.addresses import current_network
from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from llmsite.core.logs import request_id

PAGE = 1000
"""How many events an export reads at once."""


class _Default(Enum):
    WHO_ACTS = "who acts at the moment, else the subject itself"


@dataclass(frozen=True, slots=True)
class _Acting:
    actor: User | None


_acting: ContextVar[_Acting | None] = ContextVar("acting", default=None)


@contextmanager
def acting(actor: User | None) -> Iterator[None]:
    """Whose hand it is that causes what the block records; None for an operator at the terminal.

    For changes that are noticed far from the request, such as a group that a form has added.
    """
    token = _acting.set(_Acting(actor))
    try:
        yield
    finally:
        _acting.reset(token)


def acting_user() -> User | None:
    """Who acts at the moment; None where that is nobody the site knows."""
    hand = _acting.get()
    return hand.actor if hand else None


def record(
    kind: AuditKind,
    *,
    subject: User | None,
    actor: User | _Default | None = _Default.WHO_ACTS,
    **data: Any,
) -> AuditEvent:
    """Note that `actor` did `kind` to `subject`; call it in the transaction of the change itself.

    Without `actor` it is who acts at the moment (`acting`), else the subject; None stands for nobody the
    site knows, such as an operator at the terminal. `data` is JSON-able and never names a person: no user
    name, e-mail address, IP address or typed text. Ids, public ids of keys, names of roles and counts are
    what belongs there.
    """
    hand = _acting.get()
    if isinstance(actor, _Default):
        actor = hand.actor if hand else subject
    return AuditEvent.objects.create(
        kind=kind,
        actor=actor.pseudonym if actor else None,
        subject=subject.pseudonym if subject else None,
        network=current_network.get(),
        request_id=request_id.get() or "",
        data=data,
    )


def as_json_lines(events: QuerySet[AuditEvent]) -> Iterator[str]:
    """One line of JSON, with its line break, for each event, the oldest first.

    They are read a page at a time, each by a query of its own, so any number of them fits and no cursor
    is left open by a reader who goes.
    """
    events = events.order_by("created_at", "id")
    page = list(events[:PAGE])
    while page:
        for event in page:
            yield json.dumps(as_dict(event), ensure_ascii=False) + "\n"
        last = page[-1]
        # Put so that the index (created_at, id) leads to the place; with an OR, PostgreSQL would read from
        # the beginning for each page.
        later = Q(created_at__gte=last.created_at) & ~Q(created_at=last.created_at, id__lte=last.pk)
        page = list(events.filter(later)[:PAGE])


def as_dict(event: AuditEvent) -> dict[str, Any]:
    """An event as it is exported."""
    return {
        "id": str(event.pk),
        "at": event.created_at.isoformat(),
        "kind": event.kind,
        "actor": str(event.actor) if event.actor else None,
        "subject": str(event.subject) if event.subject else None,
        "network": event.network,
        "request_id": event.request_id,
        "data": event.data,
    }
