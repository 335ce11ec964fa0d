"""`GET /v1/models` and `GET /v1/models/{id}`: what the caller's key may ask."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from accounts.credentials import Credential, authenticate
from embeddings.weights import display_name
from inference.catalogue import catalogue
from inference.models import ChatModelConfig
from inference.openai_api.descriptions import MODEL, MODELS, TAG
from llmsite.core.errors import ModelNotFound, NotSignedIn
from llmsite.core.rest import json_door
from llmsite.core.schema import documented


@documented("The models", tag=TAG, gives=MODELS)
@json_door("GET")
async def list_models(request: HttpRequest) -> HttpResponseBase:
    """The models that answer, and the one that embeds."""
    return JsonResponse({"object": "list", "data": await _models(request)})


@documented("One model", tag=TAG, operation_id="v1_model_retrieve", gives=MODEL, fails=(ModelNotFound,))
@json_door("GET")
async def get_model(request: HttpRequest, name: str) -> HttpResponseBase:
    for model in await _models(request):
        if model["id"] == name:
            return JsonResponse(model)
    raise ModelNotFound(model=name)


async def _models(request: HttpRequest) -> list[dict[str, Any]]:
    credential = authenticate(request)
    if credential is None:
        raise NotSignedIn
    rows = (await catalogue.current()).rows
    chat = [_chat_model(row) for row in rows if _may_ask(credential, row.alias)]
    embedder = display_name(settings.EMBEDDING_MODEL)
    return [*chat, _model(embedder, owned_by="local", root=embedder)]


def _may_ask(credential: Credential, alias: str) -> bool:
    return credential.api_key is None or credential.api_key.allows_model(alias)


def _chat_model(row: ChatModelConfig) -> dict[str, Any]:
    """As vLLM has it, an adapter's parent is the model that it was trained on."""
    parent = row.provider_model if row.adapter else None
    return _model(row.alias, owned_by=row.provider, root=row.upstream_model, parent=parent)


def _model(name: str, *, owned_by: str, root: str, parent: str | None = None) -> dict[str, Any]:
    # Nobody keeps when a model was made; the format wants a time.
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": owned_by,
        "root": root,
        "parent": parent,
    }
