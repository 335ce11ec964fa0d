"""The audit log, the ledger and what is spent: all are only read, and name people by their pseudonyms."""

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import HistoryAdmin
from accounts.admin.lists import FoundByIndex
from accounts.audit import as_json_lines
from accounts.models import AuditEvent, LedgerEntry, Reservation, Spending, User
from accounts.money import as_money

LINES_AT_ONCE = 500


class _NamingChangeList(ChangeList):
    """Finds the present names of all pseudonyms on the page with one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        assert isinstance(self.model_admin, PseudonymAdmin)
        fields = self.model_admin.pseudonyms
        wanted = {getattr(row, field) for row in self.result_list for field in fields}
        known = User.objects.filter(pseudonym__in=wanted - {None})
        names = dict(known.values_list("pseudonym", "username"))
        for row in self.result_list:
            row.names = names


class PseudonymAdmin(HistoryAdmin):
    """Rows that name people by `pseudonyms`; they are shown, and searched, by the names of today."""

    pseudonyms: tuple[str, ...] = ()
    search_help_text = _("A username, or a pseudonym")
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _NamingChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        people = _pseudonyms_of(search_term.strip())
        found = Q(*((f"{field}__in", people) for field in self.pseudonyms), _connector=Q.OR)
        return queryset.filter(found), False


def _pseudonyms_of(text: str) -> list[UUID]:
    try:
        return [UUID(text)]
    except ValueError:
        return list(User.objects.filter(username__iexact=text).values_list("pseudonym", flat=True))


def _name(row: Model, pseudonym: UUID | None) -> str:
    """The username of today, or the beginning of the pseudonym where the person is gone."""
    if pseudonym is None:
        return "–"
    names = getattr(row, "names", None)
    if names is None:
        names = dict(User.objects.filter(pseudonym=pseudonym).values_list("pseudonym", "username"))
    return names.get(pseudonym) or str(pseudonym)[:8]


@admin.register(AuditEvent)
class AuditEventAdmin(PseudonymAdmin):
    pseudonyms = ("actor", "subject")
    list_display = ("created_at", "kind", "who", "to_whom", "network", "data")
    list_filter = ("kind", ("created_at", admin.DateFieldListFilter))
    # The box is shown where this is not empty; `get_search_results` says what is searched.
    search_fields = ("subject",)
    fields = ("created_at", "kind", "who", "actor", "to_whom", "subject", "network", "request_id", "data")
    readonly_fields = ("who", "to_whom")
    actions = ("export_selected",)

    @admin.display(description=_("who"))
    def who(self, event: AuditEvent) -> str:
        return _name(event, event.actor)

    @admin.display(description=_("to whom"))
    def to_whom(self, event: AuditEvent) -> str:
        return _name(event, event.subject)

    @admin.action(description=_("Export the selected events as JSON lines"))
    def export_selected(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> StreamingHttpResponse:
        return _download(queryset)

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="accounts_auditevent_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """All events that the list shows with the same filters; filters that are none lead to the list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return _download(self.get_changelist_instance(request).get_queryset(request))
        except IncorrectLookupParameters:
            return redirect(reverse("admin:accounts_auditevent_changelist", query={ERROR_FLAG: "1"}))


def _download(events: QuerySet[AuditEvent]) -> StreamingHttpResponse:
    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    lines = as_json_lines(events)
    return StreamingHttpResponse(_in_pieces(lines), content_type="application/x-ndjson", headers=headers)


async def _in_pieces(lines: Iterator[str]) -> AsyncIterator[str]:
    while piece := await sync_to_async(_joined)(islice(lines, LINES_AT_ONCE)):
        yield piece


def _joined(lines: Iterable[str]) -> str:
    return "".join(lines)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(PseudonymAdmin):
    pseudonyms = ("account",)
    list_display = (
        "created_at",
        "payer",
        "api_key",
        "model",
        "provider",
        "kind",
        "input_tokens",
        "output_tokens",
        "cost",
        "estimated",
    )
    list_filter = ("kind", "estimated", ("created_at", admin.DateFieldListFilter))
    search_fields = ("account",)
    # Bookings are numbered as they come, so this is the order of time, by an index.
    ordering = ("-pk",)
    readonly_fields = ("payer", "cost")

    @admin.display(description=_("payer"))
    def payer(self, entry: LedgerEntry) -> str:
        return _name(entry, entry.account)

    @admin.display(description=_("cost"), ordering="cost_micro")
    def cost(self, entry: LedgerEntry) -> str:
        return as_money(entry.cost_micro)


@admin.register(Reservation)
class ReservationAdmin(PseudonymAdmin):
    """Calls under way, and what they may cost at the most."""

    pseudonyms = ("account",)
    list_display = ("created_at", "payer", "api_key", "model", "provider", "amount")
    search_fields = ("account",)
    fields = (
        "created_at",
        "call",
        "payer",
        "account",
        "month",
        "api_key",
        "model",
        "provider",
        "input_price",
        "output_price",
        "input_tokens",
        "amount",
    )
    ordering = ("-created_at", "pk")

    @admin.display(description=_("payer"))
    def payer(self, row: Reservation) -> str:
        return _name(row, row.account)

    @admin.display(description=_("most that it can cost"))
    def amount(self, row: Reservation) -> str:
        return as_money(row.amount_micro)


@admin.register(Spending)
class SpendingAdmin(FoundByIndex, HistoryAdmin):
    """What budgets have been used up to. A holder is `user:` and a pseudonym, or `key:` and a public id."""

    list_display = ("month", "holder", "spent", "reserved")
    list_filter = (("month", admin.DateFieldListFilter),)
    search_fields = ("holder",)
    search_help_text = _("user: and a pseudonym, or key: and the public id of a key")
    fields = ("holder", "month", "spent", "reserved")
    ordering = ("-pk",)
    sortable_by = ()

    @admin.display(description=_("spent"))
    def spent(self, row: Spending) -> str:
        return as_money(row.spent_micro)

    @admin.display(description=_("reserved"))
    def reserved(self, row: Spending) -> str:
        return as_money(row.reserved_micro)
