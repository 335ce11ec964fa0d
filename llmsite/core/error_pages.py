"""What somebody sees when no view could answer: a page for people, an envelope for programs."""

import math

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from llmsite.core.errors import (
    CsrfFailed,
    InvalidInput,
    MethodNotAllowed,
    NotAllowed,
    NotFound,
    SiteError,
    describe,
)
from llmsite.core.paths import is_api_path
from llmsite.core.rest import error_response

_PAGES = {403: "403.html", 404: "404.html", 500: "500.html"}


def render_error(request: HttpRequest, error: SiteError) -> HttpResponse:
    """`error` as the kind of answer that this address gives."""
    if is_api_path(request.path):
        return error_response(error)
    public = describe(error)
    page = _PAGES.get(public.status, "error.html")
    response = render(request, page, {"error": public}, status=public.status)
    if public.retry_after is not None:
        response["Retry-After"] = str(math.ceil(public.retry_after))
    if isinstance(error, MethodNotAllowed):
        response["Allow"] = ", ".join(error.data["allowed"])
    return response


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render_error(request, InvalidInput(reason=_("The request could not be read.")))


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render_error(request, NotAllowed())


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render_error(request, CsrfFailed(reason=reason))


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render_error(request, NotFound())


def missing(request: HttpRequest, **_parts: str) -> HttpResponse:
    """The view of an address that a part of the site would offer and the site does not."""
    return page_not_found(request)


def server_error(request: HttpRequest) -> HttpResponse:
    return render_error(request, SiteError())
