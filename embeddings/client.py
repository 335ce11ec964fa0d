"""Asks the encoder of the model process: texts in, vectors out. The web process has no model of its own."""

import asyncio
import base64
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from embeddings.texts import Kind
from llmsite.core import http, tracing
from llmsite.core.errors import EmbedderFailed, EmbedderUnavailable, InvalidInput, TooLarge
from llmsite.core.model_process import MOST_BYTES

_BYTES_OF_A_VECTOR = 1 << 16
_ERROR_BYTES = 1 << 16

AWAY = (502, 503, 504)
"""What the model process answers while it loads, stops or has too much to do, or a proxy without it."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector of length one for each text, as 32-bit floats."""

    model: str
    dimensions: int
    vectors: list["array[float]"]
    input_tokens: int
    truncated: int
    """How many texts were longer than the model's window, so that their ends are not in the vectors."""


async def embed(texts: Sequence[str], *, kind: Kind = "passage") -> Embeddings:
    """The vectors of 1 to 2,048 texts, none of them empty.

    Raises EmbedderUnavailable where the encoder is not there or does not answer, EmbedderFailed where it says
    that it failed, TooLarge where the texts are more than one request carries, InvalidInput where it refuses
    them.
    """
    payload = {"input": list(texts), "kind": kind, "encoding_format": "base64"}
    try:
        with tracing.embeddings(settings.EMBEDDING_MODEL) as told:
            async with asyncio.timeout(settings.TOTAL_TIMEOUT):
                found = _read(await _post(payload, limit=(len(texts) + 1) * _BYTES_OF_A_VECTOR))
            told.used(input_tokens=found.input_tokens)
        return found
    except (OSError, http.BadResponse, LookupError, TypeError, ValueError) as error:
        # A time-out is an OSError too.
        raise EmbedderUnavailable(detail=repr(error)) from error


async def _post(payload: dict[str, Any], *, limit: int) -> dict[str, Any]:
    url = f"{settings.MODEL_URL}/v1/embeddings"
    async with http.send("POST", url, payload=payload, connect_timeout=settings.CONNECT_TIMEOUT) as response:
        if response.status != 200:
            refusal = await response.read_json(limit=_ERROR_BYTES)
            raise _refused(response.status, refusal, response.headers.get("retry-after"))
        return dict(await response.read_json(limit=limit))


def _refused(status: int, body: Any, retry_after: str | None) -> Exception:
    error = body.get("error") if isinstance(body, dict) else None
    message = str(error.get("message")) if isinstance(error, dict) else ""
    if status == 413:
        return TooLarge(field="input", limit=MOST_BYTES, unit="bytes")
    if status == 400:
        return InvalidInput(field="input", reason=message)
    if status not in AWAY:
        return EmbedderFailed(detail=f"{status} {message}")
    wait = {"retry_after": float(retry_after)} if retry_after else {}
    return EmbedderUnavailable(detail=f"{status} {message}", **wait)


def _read(answer: dict[str, Any]) -> Embeddings:
    """Raises LookupError, TypeError or ValueError for what is no answer of ours."""
    vectors = [_vector(item["embedding"]) for item in answer["data"]]
    usage = answer["usage"]
    return Embeddings(
        model=str(answer["model"]),
        dimensions=len(vectors[0]),
        vectors=vectors,
        input_tokens=int(usage["prompt_tokens"]),
        truncated=int(usage["truncated_inputs"]),
    )


def _vector(encoded: str) -> "array[float]":
    vector = array("f", base64.b64decode(encoded, validate=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
