"""What the API says of itself: each door is described beside its code, and `/api/schema` puts all together.

`documented` says what a door takes, what it gives and how it may fail. What is the same for many is added
here: who may come in, the headers, and the errors of the gate and of every door.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, is_typeddict

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import resolve_type_hint
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from llmsite.core.dialects import (
    ANTHROPIC,
    OPENAI,
    SITE,
    SiteDialect,
    dialect_of,
    is_vendor_path,
    takes_api_key_header,
)
from llmsite.core.errors import (
    TABLE,
    CsrfFailed,
    DatabaseAway,
    ErrorRow,
    InvalidInput,
    NotAllowed,
    NotFound,
    NotSignedIn,
    PublicError,
    RateLimited,
    SiteError,
    TooLarge,
    UnsupportedMediaType,
)
from llmsite.core.json_schema import TEXT, TEXT_OR_NULL, Json, answer, constant
from llmsite.core.serializers import RefusesUnknownFields

Door = TypeVar("Door", bound=Callable[..., Any])
Errors = Sequence[type[SiteError]]
EVENT_STREAM = "text/event-stream"

# --- Beside a door ---------------------------------------------------------------------------------


def documented(
    summary: str,
    *,
    tag: str,
    gives: Any,
    operation_id: str | None = None,
    takes: Any = None,
    example: Json | None = None,
    fails: Errors = (),
    scope: str | Sequence[str] | None = None,
    parameters: Sequence[OpenApiParameter] = (),
    headers: Mapping[str, str] | None = None,
    for_everybody: bool = False,
) -> Callable[[Door], Door]:
    """The description of a door, an async view or a method of a class; its docstring is the longer text.

    `takes` and what `gives` holds are serializers, TypedDicts or JSON schemas; `takes` may be a dict by media
    type; `gives` is one for status 200, or a dict by status, or by status and media type. `example` is a body
    that the door takes, `headers` are those of a good answer. `fails` are the errors beside those that every
    door has, with their subclasses.
    """
    by_status = gives if isinstance(gives, dict) and all(map(_is_status, gives)) else {200: gives}
    add_schema = extend_schema(
        operation_id=operation_id,
        summary=summary,
        tags=[tag],
        request=_by_media_type(takes) if isinstance(takes, dict) else takes,
        responses=by_status,
        parameters=[*parameters],
        examples=[OpenApiExample("A request", example, request_only=True)] if example else [],
    )

    def decorate(door: Door) -> Door:
        described = add_schema(door)
        schema = described.kwargs["schema"]  # type: ignore[attr-defined]
        schema.fails, schema.for_everybody = tuple(fails), for_everybody
        schema.own_headers, schema.needs_body = headers or {}, iscoroutinefunction(door)
        if scope is not None:
            schema.scopes = [scope] if isinstance(scope, str) else list(scope)
        return described

    return decorate


def nothing(description: str) -> OpenApiResponse:
    """An answer without a body."""
    return OpenApiResponse(description=description)


def events(description: str, *fields: str) -> OpenApiResponse:
    """Server-sent events, each with `fields` (id, event, data); to be given under `(200, EVENT_STREAM)`."""
    return OpenApiResponse(answer(**dict.fromkeys(fields, TEXT)), description=description)


def _by_media_type(takes: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema is of `application/json`; its keywords have no slash, as the names of media types do."""
    return takes if any("/" in name for name in takes) else {"application/json": takes}


def _is_status(key: object) -> bool:
    return isinstance(key, int | tuple)


# --- What is added to each -------------------------------------------------------------------------


class SiteSchema(AutoSchema):
    """REST_FRAMEWORK's DEFAULT_SCHEMA_CLASS."""

    fails: Errors = ()
    scopes: Sequence[str] = ()
    own_headers: Mapping[str, str] = {}
    for_everybody = False
    needs_body = False
    """Whether a missing body is an error; a class of Django REST framework reads an empty object from it."""

    def get_auth(self) -> list[Json]:
        if self.for_everybody:
            return [{}]
        scopes = self._needed_scopes
        if takes_api_key_header(self.path):
            return [{"bearer": scopes}, {"apiKey": scopes}]
        if is_vendor_path(self.path):
            return [{"bearer": scopes}]
        return [{"bearer": scopes}, {"cookie": []} if self.method == "GET" else {"cookie": [], "csrf": []}]

    def _get_request_body(self, direction: Any = "request") -> Json | None:
        body: Json | None = super()._get_request_body(direction)
        return {**body, "required": True} if body and self.needs_body else body

    def _get_response_bodies(self, direction: Any = "response") -> Json:
        bodies: Json = super()._get_response_bodies(direction)
        for status, body in bodies.items():
            own = {name: _header(text) for name, text in self.own_headers.items() if status < "300"}
            body["headers"] = {**_references(self._dialect), **own}
        for status, rows in self._errors().items():
            bodies.setdefault(status, _error_body(self._dialect, status, rows))
        return dict(sorted(bodies.items()))

    def _get_response_for_code(self, serializer: Any, *args: Any, **kwargs: Any) -> Any:
        schema = resolve_type_hint(serializer) if is_typeddict(serializer) else serializer
        return super()._get_response_for_code(schema, *args, **kwargs)

    def _errors(self) -> dict[str, list[ErrorRow]]:
        kinds = tuple({*self.fails, *self._usual_errors()})
        found: dict[str, list[ErrorRow]] = {}
        for kind, row in TABLE.items():
            if kind is SiteError or issubclass(kind, kinds):
                found.setdefault(str(row.status), []).append(row)
        return found

    def _usual_errors(self) -> Errors:
        usual: list[type[SiteError]] = [DatabaseAway, InvalidInput, RateLimited]
        if not self.for_everybody:
            usual += [NotSignedIn, NotAllowed]
        if self._dialect is SITE:
            usual += [CsrfFailed]
        if self.method in ("POST", "PUT", "PATCH"):
            usual += [UnsupportedMediaType, TooLarge]
        return [*usual, NotFound] if "{id}" in self.path else usual

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Json:
        schema: Json = super()._map_basic_serializer(serializer, direction)
        # Docstrings of serializers are for who reads the code.
        schema.pop("description", None)
        if direction == "response":
            sometimes = getattr(serializer, "sometimes", ())
            schema["required"] = [name for name in schema["properties"] if name not in sometimes]
        elif isinstance(serializer, RefusesUnknownFields):
            schema["additionalProperties"] = False
        return schema

    @property
    def _dialect(self) -> SiteDialect:
        return dialect_of(self.path)

    @property
    def _needed_scopes(self) -> list[str]:
        scope = getattr(self.view, "scope", None)
        return [str(one) for one in self.scopes or ([scope] if scope else [])]


# --- Errors and headers ----------------------------------------------------------------------------


def _error_body(dialect: SiteDialect, status: str, rows: Sequence[ErrorRow]) -> Json:
    told = {_name_of(dialect, row): str(row.message) for row in rows}
    headers = _references(dialect)
    if status in ("429", "503"):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return {
        "description": "\n".join(f"- `{name}`: {message}" for name, message in told.items()),
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_ERRORS[dialect]}"}}},
    }


def _name_of(dialect: SiteDialect, row: ErrorRow) -> str:
    """What clients know the error by."""
    error = dialect.error(PublicError(row.status, row.code, ""), None)["error"]
    return error.get("code") or error["type"]


_ERRORS = {SITE: "Error", OPENAI: "OpenAIError", ANTHROPIC: "AnthropicError"}

ERROR_SCHEMAS: Json = {
    "Error": answer(
        error=answer(
            code={**TEXT, "description": "A name that stays the same, for programs."},
            message={**TEXT, "description": "A sentence for people, in the language of the request."},
            field={**TEXT_OR_NULL, "description": "The field that is wrong."},
            request_id={**TEXT_OR_NULL, "description": "As in X-Request-ID; the log has it too."},
        )
    ),
    "OpenAIError": answer(error=answer(message=TEXT, type=TEXT, param=TEXT_OR_NULL, code=TEXT_OR_NULL)),
    "AnthropicError": answer(
        type=constant("error"), error=answer(type=TEXT, message=TEXT), request_id=TEXT_OR_NULL
    ),
}


def _header(description: str, kind: str = "string") -> Json:
    return {"description": description, "schema": {"type": kind}}


_EVERYWHERE = {
    "X-Request-ID": {
        **_header(
            "The id of the request. One that you send is kept: 8 to 128 letters, digits, “.”, “_”, “-”."
        ),
        "required": True,
    },
    "X-RateLimit-Limit": _header("Requests in the window of the narrowest limit.", "integer"),
    "X-RateLimit-Remaining": _header("How many of them are left.", "integer"),
    "X-RateLimit-Reset": _header("Seconds until the next one is given back.", "integer"),
}
_OF_DIALECT = {
    SITE: {},
    OPENAI: {
        "openai-processing-ms": _header("Milliseconds until the answer began.", "integer"),
        "x-ratelimit-reset-requests": _header("As X-RateLimit-Reset, in OpenAI's form."),
    },
    ANTHROPIC: {
        "request-id": _header("As X-Request-ID."),
        "anthropic-ratelimit-requests-reset": _header("When X-RateLimit-Reset is over, in RFC 3339."),
    },
}

HEADERS: Json = {
    **_EVERYWHERE,
    **{name: header for headers in _OF_DIALECT.values() for name, header in headers.items()},
    "Retry-After": _header("Seconds after which the same request may succeed.", "integer"),
}


def _references(dialect: SiteDialect) -> Json:
    names = [*_EVERYWHERE, *_OF_DIALECT[dialect]]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def security_schemes() -> Json:
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`llm_…`), or the `access` token of `POST /api/auth/token`.",
        },
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key."},
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.ACCESS_COOKIE,
            "description": "The sign-in of a browser, on the site's own pages.",
        },
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRFToken",
            "description": "What `GET /api/auth/csrf` gives; a cookie changes nothing without it.",
        },
    }
