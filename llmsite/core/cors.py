"""Leave for the pages of named other origins to call the API with a key, and never with a cookie.

Nobody is named by default. docs/decisions/0013-cors.md says why this is not django-cors-headers.
"""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

_PATHS = ("/api/", "/v1/")
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_TAKEN = {"accept", "authorization", "cache-control", "content-type", "idempotency-key", "last-event-id"}
_TAKEN |= {"x-api-key", "x-request-id"}
_TAKEN_PREFIXES = ("x-stainless-", "anthropic-", "openai-")
_SHOWN = {
    "x-request-id",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "idempotent-replayed",
}
_SHOWN_PREFIXES = ("x-ratelimit-", "x-llmsite-", "anthropic-", "openai-")
_SECONDS = "600"
"""How long a browser may remember a leave; each answer says again who may read it."""


class CorsMiddleware:
    """Outside of the gate, so that a page elsewhere can read its refusals too; native in async.

    A preflight passes the gate, which counts and answers it (`accounts.middleware`).
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        if not settings.CORS_ALLOWED_ORIGINS:
            raise MiddlewareNotUsed
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = await self.get_response(request)
        if request.path.startswith(_PATHS):
            patch_vary_headers(response, ["Origin"])
            if (origin := _named_origin(request)) is not None:
                response["Access-Control-Allow-Origin"] = origin
                _give_leave(request, response)
        return response


def is_preflight(request: HttpRequest) -> bool:
    """Whether a browser asks, for the page of an origin that is named, if it may send a request here."""
    return (
        request.method == "OPTIONS"
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META
        and request.path.startswith(_PATHS)
        and _named_origin(request) is not None
    )


def _named_origin(request: HttpRequest) -> str | None:
    origin: str | None = request.META.get("HTTP_ORIGIN")
    return origin if origin in settings.CORS_ALLOWED_ORIGINS else None


def _give_leave(request: HttpRequest, response: HttpResponseBase) -> None:
    if is_preflight(request):
        asked = request.META.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").lower().split(",")
        taken = [name for part in asked if _is_one(name := part.strip(), _TAKEN, _TAKEN_PREFIXES)]
        response["Access-Control-Allow-Methods"] = _METHODS
        response["Access-Control-Allow-Headers"] = ", ".join(taken)
        response["Access-Control-Max-Age"] = _SECONDS
        return
    # The id of the request is added outside of this.
    names = [
        "X-Request-ID",
        *(name for name in response.headers if _is_one(name.lower(), _SHOWN, _SHOWN_PREFIXES)),
    ]
    response["Access-Control-Expose-Headers"] = ", ".join(names)


def _is_one(name: str, names: set[str], prefixes: tuple[str, ...]) -> bool:
    return name in names or name.startswith(prefixes)
