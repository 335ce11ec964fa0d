"""`POST /api/search`: the passages that say most about a question."""

from dataclasses import asdict
from typing import Any, TypedDict, get_args

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from rest_framework import serializers

from accounts.credentials import arequire_caller
from accounts.models import Scope
from embeddings.indexes.hits import Mode
from embeddings.search import MOST_CHARACTERS, MOST_PASSAGES, Passage, search
from llmsite.core.errors import DiskFull, EmbedderUnavailable, NotFound
from llmsite.core.rest import json_door, read_json, validated
from llmsite.core.schema import documented
from llmsite.core.serializers import StrictSerializer


class SearchSerializer(StrictSerializer):
    query = serializers.CharField(max_length=MOST_CHARACTERS)
    collection = serializers.UUIDField(required=False)
    top_k = serializers.IntegerField(default=5, min_value=1, max_value=MOST_PASSAGES)
    mode = serializers.ChoiceField(get_args(Mode), default="hybrid")


class Scores(TypedDict):
    vector: float | None
    lexical: float | None


class Result(TypedDict):
    chunk: int
    document: str
    collection: str
    title: str
    page: int | None
    start: int
    end: int
    heading: str
    language: str
    text: str
    score: float
    scores: Scores


class Results(TypedDict):
    results: list[Result]
    mode: str
    complete: bool
    took_ms: float


@documented(
    "Passages of documents that answer a question",
    tag="Documents",
    scope=Scope.DOCUMENTS,
    takes=SearchSerializer,
    example={"query": "How long may a holiday be?", "top_k": 3},
    gives=Results,
    fails=(EmbedderUnavailable, DiskFull, NotFound),
)
@json_door("POST")
async def search_documents(request: HttpRequest) -> HttpResponseBase:
    """In one collection, or in all that you may read.

    `mode` of the answer is `lexical` where vectors could not be compared: while the encoder starts, or while
    documents are embedded anew for another one. `complete` is false while documents that just came or
    went are still being taken in.
    """
    caller = await arequire_caller(request, Scope.DOCUMENTS)
    wanted = validated(SearchSerializer(data=read_json(request)))
    collections = [wanted["collection"]] if "collection" in wanted else None
    found = await search(
        caller.user, wanted["query"], collections=collections, top_k=wanted["top_k"], mode=wanted["mode"]
    )
    results = [_result(passage) for passage in found.passages]
    about = {"mode": found.mode, "complete": found.is_complete, "took_ms": round(found.took_ms, 1)}
    return JsonResponse({"results": results, **about})


def _result(passage: Passage) -> dict[str, Any]:
    values = asdict(passage)
    del values["version"]
    scores = {"vector": values.pop("vector_score"), "lexical": values.pop("lexical_score")}
    return {**values, "scores": scores}
