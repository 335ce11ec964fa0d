"""The doors of the semantic index in the model process, which has the encoder: one round trip a hit."""

import asyncio
import math
from collections import OrderedDict
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from embeddings.embedder import Embedder
from inference.cache.semantic_index import SemanticIndex, Vector
from llmsite.core.model_process import (
    RequestError,
    clean_text,
    parse_json,
    read_body,
    unless_client_leaves,
)

MOST_VALUE_CHARACTERS = 1_000_000
MOST_NAME_CHARACTERS = 200
MOST_REMEMBERED, MOST_REMEMBERED_CHARACTERS = 256, 10_000


class Unanswered:
    """The vectors of the latest questions that were not found: each is kept as soon as it has an answer."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[str, Vector] = OrderedDict()

    def remember(self, text: str, vector: Vector) -> None:
        if len(text) > MOST_REMEMBERED_CHARACTERS:
            return
        self._vectors[text] = vector
        if len(self._vectors) > MOST_REMEMBERED:
            self._vectors.popitem(last=False)

    def take(self, text: str) -> Vector | None:
        return self._vectors.pop(text, None)

    def clear(self) -> None:
        self._vectors.clear()


def semantic_routes(embedder: Embedder, index: SemanticIndex | None = None) -> list[Route]:
    """The routes that search and fill `index` with vectors of `embedder`."""
    index = SemanticIndex() if index is None else index
    unanswered = Unanswered()

    async def vector_of(request: Request, text: str) -> Vector:
        embedded = await unless_client_leaves(request, embedder.embed([text], "query"))
        return embedded.vectors[0]

    async def find(request: Request) -> Response:
        data = parse_json(await read_body(request))
        partition, text = _text(data, "partition", most=MOST_NAME_CHARACTERS), _text(data, "text")
        threshold = _number(data, "threshold", least=-1, most=1)
        vector = await vector_of(request, text)
        if not (matches := index.find(partition, vector, threshold=threshold)):
            unanswered.remember(text, vector)
        return JSONResponse({"matches": [asdict(match) for match in matches]})

    async def keep(request: Request) -> Response:
        data = parse_json(await read_body(request))
        partition, text = _text(data, "partition", most=MOST_NAME_CHARACTERS), _text(data, "text")
        value = _text(data, "value", most=MOST_VALUE_CHARACTERS)
        ttl = _number(data, "ttl", least=0, most=math.inf)
        vector = unanswered.take(text)
        if vector is None:
            vector = await vector_of(request, text)
        # In a thread: the first entry imports FAISS, during which nobody's answer may stand still.
        await asyncio.to_thread(index.keep, partition, text, vector, value, ttl=ttl)
        return JSONResponse({"kept": True})

    async def forget(request: Request) -> Response:
        data = parse_json(await read_body(request))
        prefix = _text(data, "partition_prefix", most=MOST_NAME_CHARACTERS) if data else ""
        unanswered.clear()
        return JSONResponse({"forgotten": index.forget(prefix)})

    async def counts(_request: Request) -> Response:
        return JSONResponse(index.counts())

    return [
        Route("/semantic", counts, methods=["GET"]),
        Route("/semantic/find", find, methods=["POST"]),
        Route("/semantic/keep", keep, methods=["POST"]),
        Route("/semantic/forget", forget, methods=["POST"]),
    ]


def _text(data: dict[str, Any], name: str, *, most: int = MOST_VALUE_CHARACTERS) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise RequestError(f"{name} must be a text of 1 to {most} characters.", param=name)
    return clean_text(value, name)


def _number(data: dict[str, Any], name: str, *, least: float, most: float) -> float:
    value = data.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise RequestError(f"{name} must be a number from {least} to {most}.", param=name)
    return float(value)  # type: ignore[arg-type]
