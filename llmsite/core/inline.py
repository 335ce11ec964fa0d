"""Django's middleware without threads.

Under ASGI, Django runs each hook of a synchronous middleware in a thread, which costs more than everything
else that a short request needs (docs/decisions/0012-no-thread-on-the-way.md). The hooks of those below only
compute, so here they run in the event loop. The one that may read a whole body, the CSRF check of a form,
keeps its thread, and is not asked on the API, where `accounts.credentials` does what it does.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.messages.middleware import MessageMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.utils.cache import patch_vary_headers

from llmsite.core.error_pages import render_error
from llmsite.core.errors import SiteError
from llmsite.core.paths import is_api_path, takes_files
from llmsite.core.upload_handler import read_form


class _Inline:
    """Goes before a middleware of Django's among the bases of a class."""

    sync_capable = False
    async_capable = True
    get_response: Callable[..., Any]

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        process_request = getattr(self, "process_request", None)
        response = process_request(request) if process_request else None
        response = response or await self.get_response(request)
        process_response = getattr(self, "process_response", None)
        return process_response(request, response) if process_response else response


class Locale(_Inline, LocaleMiddleware):
    """On the API the language is that of the header or the cookie alone, and English needs no work."""

    def process_request(self, request: HttpRequest) -> None:
        if not is_api_path(request.path):
            super().process_request(request)
            return
        meta, cookies = request.META, request.COOKIES
        if "HTTP_ACCEPT_LANGUAGE" in meta or settings.LANGUAGE_COOKIE_NAME in cookies:
            translation.activate(translation.get_language_from_request(request))
        request.LANGUAGE_CODE = translation.get_language()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not is_api_path(request.path):
            return super().process_response(request, response)
        if "Vary" in response:
            patch_vary_headers(response, ("Accept-Language",))
        else:
            response["Vary"] = "Accept-Language"
        response.headers.setdefault("Content-Language", request.LANGUAGE_CODE)
        return response


class Common(_Inline, CommonMiddleware):
    pass


class Messages(_Inline, MessageMiddleware):
    pass


class Csrf(_Inline, CsrfViewMiddleware):
    async def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Any:  # type: ignore[override]
        if takes_files(request.path) and not request.user.is_authenticated:
            return None  # The view sends them to sign in, and nothing of their form is read.
        try:
            if request.method == "POST" and request.content_type == "multipart/form-data":
                # The proof is a field of the form, whose files may be refused.
                await sync_to_async(read_form)(request)
            return await sync_to_async(super().process_view)(request, view, args, kwargs)
        except SiteError as error:
            return await sync_to_async(render_error)(request, error)


class Pages:
    """What pages need: Django's common middleware, the proof of a form, messages for the next page.

    Programs need none of it. Their doors have a proof of their own (`accounts.credentials`), and get here
    only the check of the host, the length of the answer, and the cookie of the proof, for a page's script.
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self._csrf = Csrf(Messages(get_response))
        self._page = Common(self._csrf)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api_path(request.path):
            return await self._page(request)
        request.get_host()
        if request.COOKIES:
            self._csrf.process_request(request)
        response = await self.get_response(request)
        if "CSRF_COOKIE_NEEDS_UPDATE" in request.META:
            response = self._csrf.process_response(request, response)
        if not response.streaming and "Content-Length" not in response:
            response["Content-Length"] = str(len(response.content))  # type: ignore[attr-defined]
        return response

    async def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> Any:
        if is_api_path(request.path):
            return None
        return await self._csrf.process_view(request, view, args, kwargs)
