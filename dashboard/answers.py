"""The answers behind a point of a chart, the newest first: what they took, and nothing of what they say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from dashboard.figures import ERRORS
from dashboard.numbers import Numbers
from dashboard.period import Period, moment, second_of, typed
from inference.models import Generation, Grounding, Status
from llmsite.core.ids import first_id_at
from llmsite.core.moments import exact

SHOWN = 50
SLACK = timedelta(minutes=10)
"""How far the time in an id may be from the time when an answer was asked for."""
FILTERS = {
    "model": "model_alias",
    "provider": "provider",
    "status": "status",
    "error": "error_code",
    "cache": "cache",
}
ONLY: dict[str, dict[str, Any]] = {
    "errors": {"status__in": sorted(ERRORS)},
    "hits": {"cache__gt": ""},
    "unanswered": {"grounding": Grounding.NOTHING},
}
COLUMNS = (
    "id",
    "created_at",
    "status",
    "model_alias",
    "provider",
    "error_code",
    "cache",
    "latency_ms",
    "time_to_first_token_ms",
    "input_tokens",
    "output_tokens",
    "cost_micro",
    "user__username",
)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[dict[str, Any]]
    older: str
    """The query of the next page; "" on the last."""


def page(query: Mapping[str, str]) -> Page:
    """Two parts of an address say where it begins: `before` is the id of the last row shown."""
    rows = selected(query)
    if (before := _uuid(query.get("before"))) is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk").values(*COLUMNS)[: SHOWN + 1])
    shown = found[:SHOWN]
    is_last = len(found) <= SHOWN
    return Page(shown, "" if is_last else urlencode({**chosen(query), "before": str(shown[-1]["id"])}))


def selected(query: Mapping[str, str]) -> QuerySet[Generation]:
    rows, now = Generation.objects.order_by(), timezone.now()
    since, until = second_of(query.get("from"), now=now), second_of(query.get("to"), now=now)
    # The ids have an index and begin with the time; the time itself has none.
    if since is not None:
        first = first_id_at(max(moment(0), moment(since) - SLACK))
        rows = rows.filter(pk__gte=first, created_at__gte=moment(since))
    if until is not None:
        rows = rows.filter(pk__lt=first_id_at(moment(until) + SLACK), created_at__lt=moment(until))
    for name, column in FILTERS.items():
        if value := query.get(name):
            # A database takes no NUL, and no row has one.
            rows = rows.filter(**{column: value}) if "\0" not in value else rows.none()
    return rows.filter(**ONLY.get(query.get("only", ""), {}))


def answers_link(period: Period, **only: str) -> str:
    """To the answers of a period, or some of them."""
    query = {"from": typed(period.start), "to": typed(period.end), **only}
    return f"{reverse('dashboard-answers')}?{urlencode(query)}"


def chosen(query: Mapping[str, str]) -> dict[str, str]:
    """What of an address chooses rows."""
    return {name: query[name] for name in ("from", "to", "only", *FILTERS) if query.get(name)}


def _uuid(typed_id: str | None) -> UUID | None:
    try:
        return UUID(typed_id or "")
    except ValueError:
        return None


# --- In words -------------------------------------------------------------------------------------


def status_text(status: str) -> str:
    return str(Status(status).label) if status in Status.values else status


def told(query: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the list is narrowed to."""
    names = {
        "from": _("from (UTC)"),
        "to": _("to (UTC)"),
        "only": _("only"),
        "model": _("model"),
        "provider": _("provider"),
        "status": _("status"),
        "error": _("error"),
        "cache": _("cache"),
    }
    return [(names[name], _value_told(name, value)) for name, value in chosen(query).items()]


def _value_told(name: str, value: str) -> str:
    if name == "only":
        only = {"errors": _("errors"), "hits": _("from the cache"), "unanswered": _("without an answer")}
        return only.get(value, value)
    second = second_of(value, now=timezone.now()) if name in ("from", "to") else None
    return value if second is None else date_format(moment(second), "DATETIME_FORMAT")


def facts(row: Generation, numbers: Numbers) -> list[tuple[str, str]]:
    """What an answer took and who made it: nothing that anybody wrote."""
    found = [
        (_("Status"), status_text(row.status)),
        (_("Error"), row.error_code),
        (_("Asked (UTC)"), exact(row.created_at)),
        (_("Ended (UTC)"), exact(row.ended_at)),
        (_("User"), row.user.username),
        (_("API key"), row.api_key.name if row.api_key else ""),
        (_("Door"), row.door),
        (_("Model"), row.model_alias),
        (_("Model that was asked"), row.requested_model),
        (_("Provider"), row.provider),
        (_("Adapter"), row.adapter),
        (_("Cache"), row.cache),
        (_("Stands on"), row.get_grounding_display() if row.grounding else ""),
        (_("Time to the first token"), numbers.duration(row.time_to_first_token_ms)),
        (_("Time to the whole answer"), numbers.duration(row.latency_ms)),
        (_("Tokens read"), numbers.fixed(row.input_tokens)),
        (_("Tokens written"), numbers.fixed(row.output_tokens)),
        (_("Cost"), numbers.money(row.cost_micro)),
        (_("Request id"), row.request_id),
        (_("Id"), str(row.pk)),
    ]
    return [(name, value) for name, value in [*found, *_attempts(row)] if value]


def _attempts(row: Generation) -> list[tuple[str, str]]:
    tried = [one for one in row.attempts if isinstance(one, dict)]
    return [
        (_("Failed before"), f"{one.get('model', '')}: {one.get('code', '')}".strip(": ")) for one in tried
    ]
