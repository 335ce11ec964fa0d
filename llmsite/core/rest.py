"""Errors as JSON: one envelope for Django REST framework's views and for plain async doors."""

import functools
import json
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.serializers import Serializer

from llmsite.core import quick_json
from llmsite.core.dialects import spoken
from llmsite.core.errors import (
    DatabaseAway,
    InvalidInput,
    MethodNotAllowed,
    NotAllowed,
    NotFound,
    NotSignedIn,
    PublicError,
    SiteError,
    TooLarge,
    UnsupportedMediaType,
    describe,
)
from llmsite.core.logs import request_id

log = structlog.get_logger("llmsite.errors")

AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def error_response(error: BaseException) -> JsonResponse:
    """The answer of a JSON door to any exception."""
    error = as_site_error(error)
    public = describe(error)
    if public.status >= 500:
        unexpected = None if isinstance(error, SiteError) else error
        log.warning("error", code=public.code, detail=str(error), exc_info=unexpected)
    response = envelope(public)
    if isinstance(error, MethodNotAllowed) and error.data["allowed"]:
        response["Allow"] = ", ".join(error.data["allowed"])
    return response


def envelope(public: PublicError, *, of: str | None = None) -> JsonResponse:
    """The JSON of an error, with the headers that belong to its status.

    `of` is the id of the request that it happened to, where that is not the one being answered.
    """
    dialect = spoken.get()
    response = JsonResponse(
        dialect.error(public, of or request_id.get()),
        status=public.status,
        headers=dialect.error_headers(public),
    )
    if public.retry_after is not None:
        response["Retry-After"] = str(math.ceil(public.retry_after))
    if public.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="llmsite"'
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponseBase:
    """REST_FRAMEWORK's EXCEPTION_HANDLER."""
    response = error_response(error)
    if isinstance(error, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def json_door(*methods: str) -> Callable[[AsyncView], AsyncView]:
    """Make an async view a JSON door: it takes these methods only, and its errors are envelopes.

    It is exempt from the CSRF middleware because `accounts.credentials` checks cookies itself. `doors` names
    what answers each method, for the description of the API.
    """

    def decorate(view: AsyncView) -> AsyncView:
        @functools.wraps(view)
        async def door(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    raise MethodNotAllowed(method=request.method, allowed=methods)
                return await view(request, **kwargs)
            except Exception as error:
                return error_response(error)

        door.csrf_exempt = True  # type: ignore[attr-defined]
        door.doors = dict.fromkeys(methods, door)  # type: ignore[attr-defined]
        return door

    return decorate


def by_method(**doors: Callable[..., Any]) -> AsyncView:
    """One address with a door for each method: async doors, and views of Django REST framework."""
    views = {
        method: door if iscoroutinefunction(door) else sync_to_async(door) for method, door in doors.items()
    }

    @json_door(*doors)
    async def choose(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        return await views[str(request.method)](request, **kwargs)

    choose.doors = doors  # type: ignore[attr-defined]
    return choose


def read_json(request: HttpRequest) -> Any:
    """The body as JSON. Raises UnsupportedMediaType, TooLarge (through Django) or InvalidInput."""
    if request.content_type != "application/json":
        raise UnsupportedMediaType
    try:
        return _DECODER.decode(request.body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(reason=_("The body is not JSON in UTF-8.")) from error


def _refuse_constant(name: str) -> None:
    # NaN and Infinity are not JSON, and would pass every comparison with a limit.
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def json_response(data: Any, *, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """As JsonResponse, of plain values alone, in less time."""
    return HttpResponse(quick_json.encode(data), content_type="application/json", headers=headers)


def validated(serializer: Serializer[Any]) -> dict[str, Any]:
    """The serializer's typed values. Raises InvalidInput for the first field that is wrong."""
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


def as_site_error(error: BaseException) -> BaseException:
    """What an exception of Django or its REST framework is called in our table."""
    if isinstance(error, exceptions.ValidationError):
        field, reason = _first_reason(error.detail)
        return InvalidInput(field=field, reason=reason)
    if isinstance(error, exceptions.ParseError):
        return InvalidInput(reason=str(error.detail))
    for known, make in _TRANSLATIONS.items():
        if isinstance(error, known):
            return make()
    if isinstance(error, exceptions.MethodNotAllowed):
        return MethodNotAllowed(method="", allowed=())
    return error


_TRANSLATIONS: dict[type[BaseException], Callable[[], SiteError]] = {
    exceptions.NotAuthenticated: NotSignedIn,
    exceptions.AuthenticationFailed: NotSignedIn,
    exceptions.PermissionDenied: NotAllowed,
    PermissionDenied: NotAllowed,
    exceptions.NotFound: NotFound,
    Http404: NotFound,
    exceptions.UnsupportedMediaType: UnsupportedMediaType,
    OperationalError: DatabaseAway,
    InterfaceError: DatabaseAway,
    RequestDataTooBig: lambda: TooLarge(limit=_body_limit(), unit="bytes"),
}


def _body_limit() -> int:
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def _first_reason(detail: Any, field: str | None = None) -> tuple[str | None, str]:
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        if isinstance(name, int):  # The place in a list; the field is the list's.
            return _first_reason(inner, field)
        return _first_reason(inner, None if name == "non_field_errors" else str(name))
    if isinstance(detail, list):
        return _first_reason(detail[0], field)
    return field, str(detail)
