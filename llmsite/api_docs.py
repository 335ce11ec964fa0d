"""The description of the whole API: `GET /api/schema` for programs, `/docs/` for people."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation
from django.views.decorators.http import require_safe
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from rest_framework.views import APIView

from accounts.credentials import authenticate
from llmsite.core.errors import NotSignedIn
from llmsite.core.rest import json_door
from llmsite.core.schema import ERROR_SCHEMAS, HEADERS, documented, security_schemes

API = ("/api/", "/v1/")


class DoorEnumerator(EndpointEnumerator):
    """Finds the async doors too, and leaves out what is no API."""

    def should_include_endpoint(self, path: str, callback: Callable[..., Any]) -> bool:
        return path.startswith(API)

    def get_allowed_methods(self, callback: Callable[..., Any]) -> list[str]:
        if not hasattr(callback, "doors"):
            return super().get_allowed_methods(callback)
        return [method for method in callback.doors if method != "HEAD"]


class Generator(SchemaGenerator):
    """drf-spectacular's DEFAULT_GENERATOR_CLASS, so `manage.py spectacular` prints the same schema."""

    endpoint_inspector_cls = DoorEnumerator

    def create_view(self, callback: Any, method: str, request: Any = None) -> Any:
        return super().create_view(_as_class_view(callback, method), method, request)

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        schema: dict[str, Any] = super().get_schema(request, public)
        components = schema["components"]
        components["schemas"] = components.get("schemas", {}) | ERROR_SCHEMAS
        components["headers"], components["securitySchemes"] = HEADERS, security_schemes()
        return _tidy(schema)


def _as_class_view(callback: Any, method: str) -> Any:
    """A stand-in for an async door: the generator reads the descriptions of classes only."""
    door = getattr(callback, "doors", {}).get(method, callback)
    if hasattr(door, "cls"):
        return door
    return type(door.__name__, (APIView,), {method.lower(): door, "__doc__": ""}).as_view()  # type: ignore[attr-defined]


def _tidy(schema: Any) -> Any:
    """Without what the generator leaves behind: `nullable`, which 3.1 has no more, and marks of its own."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("nullable", "x-spec-enum-id")
    tidy = {name: _tidy(value) for name, value in schema.items() if name not in dropped}
    if schema.get("nullable") is True:
        tidy["type"] = [schema["type"], "null"]
        if "enum" in schema:
            tidy["enum"] = [*schema["enum"], None]
    return tidy


@documented(
    "This description",
    tag="Site",
    gives={"type": "object", "properties": {"openapi": {"type": "string"}}, "required": ["openapi"]},
)
@json_door("GET")
async def schema(request: HttpRequest) -> HttpResponseBase:
    """The API in OpenAPI 3.1, in English, for whoever is signed in or has a key, of whatever scopes."""
    if authenticate(request) is None:
        raise NotSignedIn
    return HttpResponse(await sync_to_async(schema_json)(), content_type="application/json")


@cache
def schema_json() -> bytes:
    """The same for everybody, and as long as the process runs."""
    with translation.override("en"):
        # It is written within, because some of its texts are translated only then.
        return json.dumps(Generator().get_schema(public=True), default=str).encode()


@require_safe
@login_required
def docs(request: HttpRequest) -> HttpResponse:
    context = {
        "schema_url": reverse("schema"),
        "keys_url": f"{reverse('account')}#keys",
        "base_url": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "docs.html", context)
