"""The headers that keep a browser from doing what nobody wants, on every answer.

Django's middleware and django-csp's write them. Each would write the same ones again on each answer, with a
layer of its own around everything behind it; so each is asked once what it writes, and that is copied.
"""

from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from csp.middleware import CSPMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.functional import cached_property

_OURS = {
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""The first because answers are private; what may be kept has a header of its own."""


class SafetyHeadersMiddleware:
    """Leads to HTTPS where the site has it, and adds the headers that a view has not set itself.

    No view has a policy of its own or takes a nonce.
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self._security = SecurityMiddleware(_nothing)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_secure = request.is_secure()
        redirect = None if is_secure else self._security.process_request(request)
        response = redirect or await self.get_response(request)
        copy_missing(self._when_secure if is_secure else self._when_plain, response)
        return response

    @cached_property
    def _when_secure(self) -> HttpResponseBase:
        return self._written(is_secure=True)

    @cached_property
    def _when_plain(self) -> HttpResponseBase:
        return self._written(is_secure=False)

    def _written(self, *, is_secure: bool) -> HttpResponseBase:
        """An empty answer with the headers of each middleware."""
        request, response = HttpRequest(), HttpResponse()
        del response["Content-Type"]
        request._get_scheme = lambda: "https" if is_secure else "http"  # type: ignore[attr-defined]
        for middleware in (self._security, XFrameOptionsMiddleware(_nothing), CSPMiddleware(_nothing)):
            response = middleware.process_response(request, response)
        for name, value in _OURS.items():
            response[name] = value
        return response


def copy_missing(model: HttpResponseBase, response: HttpResponseBase) -> None:
    """Give `response` the headers of `model` that it does not have.

    Django checks and converts each header that is set; these are as they were in `model`.
    """
    headers = response.headers._store
    for key, header in model.headers._store.items():
        if key not in headers:
            headers[key] = header


def _nothing(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()
