"""Keyset paging: a page starts after the last row of the one before, so deep pages cost no more."""

from typing import Any

from rest_framework.pagination import CursorPagination
from rest_framework.response import Response


class KeysetPagination(CursorPagination):
    """Lists as `{"results": […], "next": url|null}`; a view sets its `ordering`."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link()})
