"""The encoder's door in the model process: OpenAI's `POST /v1/embeddings`.

Beyond OpenAI's fields a request may have `kind`: some models want to know whether a text is a `query` or
a `passage`. Without it, it is a passage.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embeddings.embedder import Embedded, Embedder
from embeddings.encoder import Vectors
from embeddings.texts import MOST_TEXTS, ROWS_AT_ONCE, Kind
from llmsite.core.model_process import (
    RequestError,
    clean_text,
    parse_json,
    parse_model,
    read_body,
    unless_client_leaves,
)

Format = Literal["float", "base64"]


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """One valid request."""

    texts: list[str]
    kind: Kind
    format: Format
    model: str | None
    dimensions: int | None


def embedding_routes(embedder: Embedder) -> list[Route]:
    """The routes that ask `embedder`."""

    async def embeddings(request: Request) -> Response:
        wanted = parse(parse_json(await read_body(request)))
        encoder = embedder.encoder
        check_model(wanted, encoder.name, encoder.dimensions)
        found = await unless_client_leaves(request, embedder.embed(wanted.texts, wanted.kind))
        body = await _body(encoder.name, found, wanted.format)
        return Response(body, media_type="application/json")

    return [Route("/v1/embeddings", embeddings, methods=["POST"])]


def parse(data: dict[str, Any]) -> EmbeddingRequest:
    """Raises RequestError, which names the field. Fields that change nothing here are ignored."""
    dimensions = data.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
        raise RequestError("dimensions must be a whole number.", param="dimensions")
    return EmbeddingRequest(
        texts=_texts(data.get("input")),
        kind=cast(Kind, _one_of(data, "kind", get_args(Kind), "passage")),
        format=cast(Format, _one_of(data, "encoding_format", get_args(Format), "float")),
        model=parse_model(data),
        dimensions=dimensions,
    )


def check_model(wanted: EmbeddingRequest, name: str, dimensions: int) -> None:
    """Raises RequestError where another model, or another size of vector, is asked for."""
    if wanted.model not in (None, name):
        message = f"The model {wanted.model!r} makes no embeddings here; {name!r} does."
        raise RequestError(message, status=404, code="model_not_found", param="model")
    if wanted.dimensions not in (None, dimensions):
        raise RequestError(f"This model's vectors have {dimensions} dimensions.", param="dimensions")


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise RequestError("input must be a text or a list of texts.", param="input")
    if len(texts) > MOST_TEXTS:
        raise RequestError(f"input takes {MOST_TEXTS} texts at most.", param="input")
    for text in texts:
        if isinstance(text, int | list):
            raise RequestError(
                "input must be text: tokens of another model mean nothing here.", param="input"
            )
        if not isinstance(text, str) or not text:
            raise RequestError("Each input must be a text with at least one character.", param="input")
        clean_text(text, "input")
    return texts


def _one_of(data: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = data.get(name)
    if value is not None and value not in choices:
        raise RequestError(f"{name} must be {' or '.join(choices)}.", param=name)
    return value or default


async def _body(name: str, found: Embedded, form: Format) -> bytes:
    rows = [row async for row in _rows(found.vectors, form)]
    usage = {"prompt_tokens": found.input_tokens, "total_tokens": found.input_tokens}
    # Not OpenAI's, who refuse such a text.
    usage["truncated_inputs"] = found.truncated
    end = json.dumps({"object": "list", "model": name, "usage": usage})
    return f'{{"data": [{", ".join(rows)}], {end[1:]}'.encode()


async def _rows(vectors: Vectors, form: Format) -> AsyncIterator[str]:
    """Each vector as the JSON of its object."""
    for at, vector in enumerate(vectors):
        if at % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
        value = (
            vector.tolist()
            if form == "float"
            else base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
        )
        yield json.dumps({"object": "embedding", "index": at, "embedding": value})
