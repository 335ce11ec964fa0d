"""`GET /v1/models` and `GET /v1/models/{id}`: what the caller's key may ask.

Both vendors have these addresses, so each of their clients is answered in its own form.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from accounts.credentials import Credential, authenticate
from embeddings.weights import display_name
from inference.catalogue import catalogue
from inference.models import ChatModelConfig
from inference.openai_api.descriptions import MODEL_OF_BOTH, MODELS_OF_BOTH, TAG
from llmsite.core.dialects import ANTHROPIC, spoken
from llmsite.core.errors import ModelNotFound, NotSignedIn
from llmsite.core.rest import json_door
from llmsite.core.schema import documented


@documented("The models", tag=TAG, gives=MODELS_OF_BOTH)
@json_door("GET")
async def list_models(request: HttpRequest) -> HttpResponseBase:
    """The models that answer, and the one that embeds.

    Anthropic's clients, who send `anthropic-version`, get them in their form, and without the latter.
    """
    models = await _models(request)
    if spoken.get() is not ANTHROPIC:
        return JsonResponse({"object": "list", "data": models})
    names = [model["id"] for model in models]
    ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
    return JsonResponse({"data": models, "has_more": False, **ends})


@documented(
    "One model",
    tag=TAG,
    operation_id="v1_model_retrieve",
    gives=MODEL_OF_BOTH,
    fails=(ModelNotFound,),
)
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
    askable = [row for row in rows if _may_ask(credential, row.alias)]
    if spoken.get() is ANTHROPIC:
        return [_for_anthropic(row) for row in askable]
    chat = [_chat_model(row) for row in askable]
    embedder = display_name(settings.EMBEDDING_MODEL)
    return [*chat, _model(embedder, owned_by="local", root=embedder)]


def _may_ask(credential: Credential, alias: str) -> bool:
    return credential.api_key is None or credential.api_key.allows_model(alias)


def _chat_model(row: ChatModelConfig) -> dict[str, Any]:
    """As vLLM has it, an adapter's parent is the model that it was trained on."""
    parent = row.provider_model if row.adapter else None
    return _model(row.alias, owned_by=row.provider, root=row.upstream_model, parent=parent)


def _for_anthropic(row: ChatModelConfig) -> dict[str, Any]:
    return {
        "type": "model",
        "id": row.alias,
        "display_name": str(row),
        # The format has this time for a model whose own is not known.
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": row.context_window,
    }


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
