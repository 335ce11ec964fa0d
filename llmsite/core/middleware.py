"""What every request gets: an id, and a line in the log."""

import time
from collections.abc import Awaitable, Callable
from functools import cache

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from prometheus_client import Counter, Histogram

from llmsite.core import tracing
from llmsite.core.error_pages import render_error
from llmsite.core.errors import SiteError
from llmsite.core.logs import log_request, read_request_id
from llmsite.core.logs import request_id as current_request_id
from llmsite.core.metrics import HTTP_REQUESTS, HTTP_SECONDS

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMiddleware:
    """Outermost, and native in async: it costs no thread."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        request_id = read_request_id(request.META.get("HTTP_X_REQUEST_ID"))
        request.request_id = request_id  # type: ignore[attr-defined]
        token = current_request_id.set(request_id)
        try:
            method = _method_of(request)
            with tracing.server(method, request.META.get("HTTP_TRACEPARENT")) as told:
                response = await self.get_response(request)
                route = _route_of(request)
                told.answered(route, response.status_code)
            response["X-Request-ID"] = request_id
            _log_request(request, response, method, route, time.perf_counter() - started)
        finally:
            current_request_id.reset(token)
        return response

    async def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        if not isinstance(exception, SiteError):
            return None
        return await sync_to_async(render_error)(request, exception)


def _log_request(
    request: HttpRequest, response: HttpResponseBase, method: str, route: str, seconds: float
) -> None:
    requests, durations = _series(route, method, response.status_code)
    requests.inc()
    durations.observe(seconds)
    log_request(
        method=method,
        route=route or None,
        status=response.status_code,
        latency_ms=round(seconds * 1000, 2),
        user_id=_known_user_id(request.__dict__.get("user")),
        cache=response.headers.get("X-Llmsite-Cache"),
    )


def _route_of(request: HttpRequest) -> str:
    """The pattern of the address, without what stands in it; empty where there is none."""
    match = request.resolver_match
    return f"/{match.route}" if match else ""


def _method_of(request: HttpRequest) -> str:
    """One that is known: anybody can invent others."""
    return request.method if request.method in _METHODS else "other"


@cache
def _series(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """There is one of each for every kind of answer, and looking it up takes longer than counting."""
    return HTTP_REQUESTS.labels(route, method, status), HTTP_SECONDS.labels(route)


def _known_user_id(user: object) -> int | None:
    # An unread lazy user stays unread: a log line must not cost a query.
    wrapped = getattr(user, "_wrapped", user)
    return getattr(wrapped, "pk", None)
