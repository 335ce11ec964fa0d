"""Keyset paging: a page starts after the last row of the one before, so deep pages cost no more."""

import re
from typing import Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from llmsite.core.errors import InvalidInput


class KeysetPagination(CursorPagination):
    """Lists as `{"results": […], "next": url|null}`; a view sets its `ordering`."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        """Raises InvalidInput for what is no number of rows; more than there may be are cut down."""
        given = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not re.fullmatch("0*[1-9][0-9]{0,8}", given):
            raise InvalidInput(field="limit", reason=_("This must be a whole number above 0."))
        return min(int(given), self.max_page_size)

    def decode_cursor(self, request: Request) -> Any:
        """Raises InvalidInput: a cursor stands in `next` of the page before, and nowhere else."""
        try:
            return super().decode_cursor(request)
        except NotFound as error:
            raise InvalidInput(field="cursor", reason=_("This is no cursor of a page.")) from error

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        cursor = "Where the page begins; `next` of the page before has it."
        limit = f"How many rows; {self.page_size} by default, {self.max_page_size} at most."
        return [
            {"name": "cursor", "in": "query", "description": cursor, "schema": {"type": "string"}},
            {
                "name": "limit",
                "in": "query",
                "description": limit,
                "schema": {"type": "integer", "minimum": 1},
            },
        ]

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link()})
