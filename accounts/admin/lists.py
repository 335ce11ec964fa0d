"""Lists of tables that grow for ever: no page of them reads more than it shows."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import CharField, Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

COUNTED = 5_000
"""Rows behind these are not counted, and have no page: a search or a filter leads to them."""
OFFERED = {"exact", "in", "isnull", "gt", "gte", "lt", "lte"}
"""What filters ask of a column. A pattern would have every row looked at, and may be one that never ends."""


class BoundedPaginator(Paginator):
    """Counts no further than anybody turns pages."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:COUNTED].count()

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than those that are counted."""
        return self.count == COUNTED


class OwnOrder(ChangeList):
    """Sorted as an index has it, whatever the address says."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        if self.sortable_by == ():
            self.params.pop(ORDER_VAR, None)
        return super().get_ordering(request, queryset)


class ListAdmin(admin.ModelAdmin):
    """A list that counts no further than it has pages, and is narrowed down by what its filters offer."""

    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    # Counts beside each filter would look at every row.
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OwnOrder

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        try:
            return super().get_changelist_instance(request)
        except (ValueError, OverflowError, DataError) as error:
            # A moment that no calendar has, or no text: the admin shows the list without it, and says so.
            raise IncorrectLookupParameters(error) from error

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # PostgreSQL refuses to look for it; the form of a list does too, autocompletion does not.
        if "\0" in search_term:
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> Any:
        """An id that is none selects no row."""
        sent = request.POST.copy()
        chosen = [one for one in sent.getlist(ACTION_CHECKBOX_NAME) if self._is_id(one)]
        sent.setlist(ACTION_CHECKBOX_NAME, chosen)
        request.POST = sent  # type: ignore[assignment]
        return super().response_action(request, queryset, *args, **kwargs)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        if from_field is None and not self._is_id(object_id):
            return None
        return super().get_object(request, object_id, from_field)

    def _is_id(self, text: str) -> bool:
        try:
            # Its validators know how large a number the database takes.
            self.opts.pk.run_validators(self.opts.pk.to_python(text))
        except ValidationError:
            return False
        return "\0" not in text

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        question = lookup.rpartition("__")[2]
        asks_otherwise = question in CharField().get_lookups() and question not in OFFERED
        return not asks_otherwise and super().lookup_allowed(lookup, value, request)


class FoundByIndex(admin.ModelAdmin):
    """Goes before a ModelAdmin: each of `search_fields` is compared as a whole, which an index answers.

    A part of a name would have every row looked at, and a part of a text would tell the text.
    """

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            queryset = queryset.filter(pk__in=found(queryset.model, self.search_fields, term))
        return queryset, False


def found(model: type[Model], paths: Iterable[str], term: str) -> set[Any]:
    """The rows in which one of the columns at `paths` is `term`, the newest COUNTED of each.

    Columns that cannot hold such a value are left out. Each is asked by itself: a condition over several of
    them, or over subqueries, would have every row looked at.
    """
    pks: set[Any] = set()
    if "\0" in term:
        return pks
    for path in paths:
        field: Any = model._meta.pk if path == "pk" else get_fields_from_path(model, path)[-1]
        try:
            value = field.to_python(term)
        except ValidationError:
            continue
        rows = model._base_manager.filter(**{path: value})
        if isinstance(field, CharField):
            # As the partial indexes have it that leave empty ones out.
            rows = rows.exclude(**{path: ""})
        pks.update(rows.order_by("-pk").values_list("pk", flat=True)[:COUNTED])
    return pks
