"""Lists of tables that grow for ever: no page of them reads more than it shows."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import get_fields_from_path
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import CharField, Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

COUNTED = 5_000
"""Rows behind these are not counted, and have no page: a search or a filter leads to them."""


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


class ListAdmin(admin.ModelAdmin):
    """A list that counts no further than it has pages."""

    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    # Counts beside each filter would look at every row.
    show_facets = admin.ShowFacets.NEVER


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
