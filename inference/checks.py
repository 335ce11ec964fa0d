"""What `manage.py migrate` and `manage.py check --database default` say about the models."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

from inference.models import ChatModelConfig
from inference.providers import KEYS, is_configured


@register(Tags.database)
def check_prices(*, databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """W001 for each model that can be asked, costs money, and has no price."""
    return [
        Warning(
            f"The model “{alias}” of {provider} has no price: its answers count as free in every budget.",
            hint="Enter its prices in the admin, under Models.",
            id="inference.W001",
        )
        for database in databases or ()
        for alias, provider in _unpriced(database)
    ]


def _unpriced(database: str) -> list[tuple[str, str]]:
    # Before the first migration there is no table.
    if ChatModelConfig._meta.db_table not in connections[database].introspection.table_names():
        return []
    asked = [name for name in KEYS if is_configured(name)]
    rows = ChatModelConfig.objects.using(database).active()
    free = rows.filter(provider__in=asked, input_price=0, output_price=0)
    return list(free.order_by("alias").values_list("alias", "provider"))
