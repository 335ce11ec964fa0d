"""The way to the indexes, which are in the model process."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings

from embeddings.client import AWAY
from embeddings.indexes.hits import Hit, Mode
from embeddings.indexes.rows import Target
from llmsite.core import http
from llmsite.core.errors import DiskFull, EmbedderFailed, EmbedderUnavailable, SiteError

MOST_BYTES = 1 << 20
SYNC_SECONDS = 3600.0
"""A whole collection may have to be read again."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the indexes name for a question. Unless `by_vector`, some were asked for its words alone."""

    hits: list[Hit]
    by_vector: bool
    is_complete: bool
    """False while an index that was asked is still being brought up to date."""


def sync(collection: UUID | None = None) -> int:
    """Returns when the indexes of a collection, or of all, hold what the database says.

    Gives how many versions have changed. Raises EmbedderUnavailable where the model process does not answer,
    EmbedderFailed where it says that it failed, and DiskFull.
    """
    payload = {} if collection is None else {"collection": str(collection)}
    return int(async_to_sync(_post)("/v1/indexes/sync", payload, seconds=SYNC_SECONDS)["changed"])


async def find(targets: Sequence[Target], text: str, mode: Mode) -> Candidates:
    """What these indexes name. Raises what `sync` raises."""
    wanted = [{**asdict(target), "collection": str(target.collection)} for target in targets]
    payload = {"indexes": wanted, "text": text, "mode": mode}
    answer = await _post("/v1/indexes/search", payload, seconds=settings.TOTAL_TIMEOUT)
    try:
        return Candidates(
            [Hit(*hit) for hit in answer["hits"]], bool(answer["by_vector"]), bool(answer["complete"])
        )
    except (LookupError, TypeError) as error:
        raise EmbedderUnavailable(detail=repr(error)) from error


async def _post(path: str, payload: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    url = settings.MODEL_URL + path
    try:
        async with (
            asyncio.timeout(seconds),
            http.send("POST", url, payload=payload, connect_timeout=settings.CONNECT_TIMEOUT) as response,
        ):
            answer = await response.read_json(limit=MOST_BYTES)
    except (OSError, http.BadResponse) as error:  # A time-out is an OSError too.
        raise EmbedderUnavailable(detail=repr(error)) from error
    if response.status != 200 or not isinstance(answer, dict):
        raise _refused(response.status, detail=f"{response.status} {answer}")
    return answer


def _refused(status: int, detail: str) -> SiteError:
    if status == 507:
        return DiskFull(detail=detail)
    return EmbedderUnavailable(detail=detail) if status in AWAY else EmbedderFailed(detail=detail)
