"""What every answer below `/v1/` has, whoever gives it: the vendor's form of errors, and its headers."""

import time
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.translation import gettext as _

from llmsite.core.dialects import SITE, dialect_of, spoken
from llmsite.core.errors import InvalidInput
from llmsite.core.logs import request_id
from llmsite.core.rest import error_response


class VendorMiddleware:
    """Outside of the gate, so that its refusals are told in the dialect of the address too."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        dialect = dialect_of(request.path, request.META)
        if dialect is SITE:
            return await self.get_response(request)
        began = time.perf_counter()
        token = spoken.set(dialect)
        try:
            response = await self._answer(request)
        finally:
            spoken.reset(token)
        milliseconds = round((time.perf_counter() - began) * 1000)
        added = dialect.headers(
            response.headers, request_id=request_id.get() or "", milliseconds=milliseconds
        )
        for name, value in added.items():
            response[name] = value
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        """Clients follow a redirect with a GET and without the body, so there is none, not even to HTTPS."""
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            with translation.override(translation.get_language_from_request(request)):
                return error_response(InvalidInput(reason=_("Use https:// for this address.")))
        return await self.get_response(request)
