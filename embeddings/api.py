"""`POST /api/embed`: texts in, vectors out."""

import asyncio
import json
from array import array
from collections.abc import Sequence
from typing import Any, TypedDict, get_args

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.credentials import arequire_caller
from accounts.models import Scope
from embeddings.client import embed
from embeddings.texts import MOST_TEXTS, ROWS_AT_ONCE, Kind
from llmsite.core.errors import EmbedderUnavailable
from llmsite.core.json_schema import list_of, one_of, text
from llmsite.core.rest import json_door, read_json, validated
from llmsite.core.schema import documented
from llmsite.core.serializers import StrictSerializer


class TextField(serializers.CharField):
    """A text as it was written; a number is not taken for one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field(one_of(text(), list_of(text(), least=1, most=MOST_TEXTS)))
class TextsField(serializers.ListField):
    """One text or a list of them."""

    child = TextField()

    def to_internal_value(self, data: Any) -> list[str]:
        return super().to_internal_value([data] if isinstance(data, str) else data)


class EmbedSerializer(StrictSerializer):
    input = TextsField(min_length=1, max_length=MOST_TEXTS)
    kind = serializers.ChoiceField(get_args(Kind), default="passage")


class Vectors(TypedDict):
    model: str
    dimensions: int
    embeddings: list[list[float]]


@documented(
    "Vectors of texts",
    tag="Embeddings",
    scope=Scope.EMBED,
    takes=EmbedSerializer,
    example={"input": ["What is a fox?", "A fox is an animal."]},
    gives=Vectors,
    fails=(EmbedderUnavailable,),
)
@json_door("POST")
async def embed_texts(request: HttpRequest) -> HttpResponseBase:
    """A text or a list of texts; one vector for each."""
    await arequire_caller(request, Scope.EMBED)
    wanted = validated(EmbedSerializer(data=read_json(request)))
    found = await embed(wanted["input"], kind=wanted["kind"])
    head = json.dumps({"model": found.model, "dimensions": found.dimensions})
    rows = await _rows(found.vectors)
    return HttpResponse(f'{head[:-1]}, "embeddings": [{", ".join(rows)}]}}', content_type="application/json")


async def _rows(vectors: Sequence["array[float]"]) -> list[str]:
    """Each vector as JSON."""
    rows = []
    for at, vector in enumerate(vectors):
        if at % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
        rows.append(json.dumps(vector.tolist()))
    return rows
