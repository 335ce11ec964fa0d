"""`POST /v1/embeddings`: OpenAI's form of `POST /api/embed`."""

import asyncio
import base64
import json
import sys
from array import array
from typing import Any, get_args

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from accounts.credentials import arequire_caller
from accounts.models import Scope
from embeddings.client import Embeddings, Kind, embed
from embeddings.weights import display_name
from inference.openai_api.descriptions import EMBEDDING_REQUEST, EMBEDDINGS, TAG
from llmsite.core.errors import EmbedderUnavailable, ModelNotFound, UnsupportedParameter
from llmsite.core.json_fields import Fields, refuse
from llmsite.core.rest import json_door, read_json
from llmsite.core.schema import documented

MOST_TEXTS = 2048
MOST_CHARACTERS = 2_000_000


@documented(
    "Vectors of texts",
    tag=TAG,
    scope=Scope.EMBED,
    takes=EMBEDDING_REQUEST,
    example={"model": "all-MiniLM-L6-v2", "input": "What is a fox?"},
    gives=EMBEDDINGS,
    fails=(ModelNotFound, UnsupportedParameter, EmbedderUnavailable),
)
@json_door("POST")
async def create_embeddings(request: HttpRequest) -> HttpResponseBase:
    """The vectors as lists of numbers, or as base64 of 32-bit floats, which OpenAI's clients ask for."""
    await arequire_caller(request, Scope.EMBED)
    fields = Fields(read_json(request))
    model = fields.required_text("model", most=200)
    texts = _texts(fields)
    kind: Any = fields.choice("kind", get_args(Kind)) or "passage"
    as_base64 = fields.choice("encoding_format", ("float", "base64")) == "base64"
    fields.ignore("user")
    dimensions = fields.whole("dimensions", least=1, most=1_000_000)
    fields.refuse_others()
    if model != display_name(settings.EMBEDDING_MODEL):
        raise ModelNotFound(model=model)
    found = await embed(texts, kind=kind)
    if dimensions not in (None, found.dimensions):
        reason = _("The vectors of this model have %(count)s dimensions.") % {"count": found.dimensions}
        refuse("dimensions", reason)
    # Thousands of vectors as decimal numbers take a while to write; others are served meanwhile.
    body = await asyncio.to_thread(_body, found, as_base64=as_base64)
    return HttpResponse(body, content_type="application/json")


def _texts(fields: Fields) -> tuple[str, ...]:
    given = fields.raw("input")
    items = given if isinstance(given, list) else [given]
    if items and all(isinstance(item, int | list) for item in items):
        # Numbers of tokens, which mean something to the tokenizer of one vendor only.
        raise UnsupportedParameter(field="input")
    texts = fields.texts("input", most=MOST_TEXTS, most_characters=MOST_CHARACTERS)
    if not texts:
        refuse("input", _("This field is required."))
    return texts


def _body(found: Embeddings, *, as_base64: bool) -> bytes:
    encode = _in_base64 if as_base64 else _as_numbers
    rows = [
        {"object": "embedding", "index": at, "embedding": encode(vector)}
        for at, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": found.input_tokens, "total_tokens": found.input_tokens}
    answer = {"object": "list", "data": rows, "model": found.model, "usage": usage}
    return json.dumps({**answer, "llmsite": {"truncated": found.truncated}}).encode()


def _as_numbers(vector: "array[float]") -> list[float]:
    return vector.tolist()


def _in_base64(vector: "array[float]") -> str:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()
