"""The indexes' doors in the model process, which has the encoder: one round trip a search.

The work is done in threads of its own, so that no stream beside it stands still: one brings indexes up to
date, others search.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection, connections
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from embeddings.embedder import Embedder
from embeddings.indexes.hits import Question
from embeddings.indexes.host import Host
from embeddings.indexes.rows import Target
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import DiskFull
from llmsite.core.model_process import (
    RequestError,
    clean_text,
    parse_json,
    read_body,
    unless_client_leaves,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds that a search waits for its indexes to be brought up to date."""
SEARCHES = 2
"""That are computed at the same time."""


class IndexService:
    """The routes over a host of indexes; it opens them with the first request."""

    def __init__(self, embedder: Embedder, root: Path | None) -> None:
        self._embedder = embedder
        self._root = root
        self._host: Host | None = None
        self._searching = ThreadPoolExecutor(SEARCHES, thread_name_prefix="search")
        self._changing = ThreadPoolExecutor(1, thread_name_prefix="indexes")
        self.routes = [
            Route("/v1/indexes/sync", self.sync, methods=["POST"]),
            Route("/v1/indexes/search", self.search, methods=["POST"]),
        ]

    async def sync(self, request: Request) -> Response:
        """Answers once the indexes of a collection, or all, hold what the database says."""
        data = parse_json(await read_body(request))
        collection = data.get("collection")
        wanted = None if collection is None else [_uuid(collection)]
        host = await self._host_of_all()
        changed = await self._in(self._changing, lambda: host.sync(wanted))
        return JSONResponse({"changed": changed})

    async def search(self, request: Request) -> Response:
        """What the indexes name, and whether the encoder that made their vectors was there to be asked."""
        data = parse_json(await read_body(request))
        targets, text = _targets(data), _text(data)
        mode = data.get("mode", "hybrid")
        question = Question(text if mode != "vector" else "")
        if mode != "lexical":
            question = await self._with_vector(request, question, text, needed=mode == "vector")
        host = await self._host_of_all()
        with host.asking(targets):
            await self._refresh(host, targets)
            is_complete = not host.is_behind(targets)
            hits = await self._in(self._searching, lambda: host.search(targets, question))
        by_vector = bool(targets) and all(target.embedder == question.embedder for target in targets)
        return JSONResponse({"hits": hits, "by_vector": by_vector, "complete": is_complete})

    def close(self) -> None:
        """Keep what is worth keeping, and end the threads with their connections."""
        _end(self._searching, threads=SEARCHES)
        _end(self._changing, threads=1)
        if self._host:
            self._host.close()

    async def _with_vector(
        self, request: Request, question: Question, text: str, *, needed: bool
    ) -> Question:
        """The question with the vector of `text`; as it is where none can be had and none is `needed`."""
        try:
            embedded = await unless_client_leaves(request, self._embedder.embed([text], "query"))
        except RequestError:
            if needed:
                raise
            return question
        return question._replace(vector=embedded.vectors[0], embedder=self._embedder.encoder.name)

    async def _refresh(self, host: Host, targets: list[Target]) -> None:
        """Bring the indexes up to date, or wait PATIENCE for it: what they hold by then is searched."""
        if host.is_behind(targets):
            refreshed = self._in(self._changing, lambda: host.refresh(targets))
            done, _ = await asyncio.wait([asyncio.ensure_future(refreshed)], timeout=PATIENCE)
            for one in done:
                one.result()  # Raises what it has raised.

    async def _host_of_all(self) -> Host:
        if self._host is None:
            self._host = await self._in(self._changing, self._open)
        return self._host

    def _open(self) -> Host:
        return self._host or Host(self._root)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            with telling_when_full():
                run = copy_context().run  # The thread's lines have the request's id as well.
                return await asyncio.get_running_loop().run_in_executor(pool, run, _with_database, work)
        except DiskFull as error:
            message = "The disk of the indexes is full."
            raise RequestError(message, status=507, code="disk_full") from error


def _end(pool: ThreadPoolExecutor, *, threads: int) -> None:
    """End the threads of a pool, each with its connection."""
    all_here = threading.Barrier(threads)

    def close() -> None:
        all_here.wait()  # So that no thread takes two of these.
        connections.close_all()

    for _ in range(threads):
        pool.submit(close)
    pool.shutdown()


def _with_database(work: Callable[[], T]) -> T:
    """The result of `work`, done again on a new connection where the database had closed the old one."""
    try:
        return work()
    except (OperationalError, InterfaceError) as error:
        log.warning("database_reconnected", error=str(error))
        connection.close()
        return work()


def _targets(data: dict[str, Any]) -> list[Target]:
    try:
        return [
            Target(
                int(one["index"]),
                UUID(one["collection"]),
                int(one["version"]),
                str(one["embedder"]),
                int(one["dimensions"]),
            )
            for one in data["indexes"]
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RequestError("indexes must be a list of indexes.", param="indexes") from error


def _text(data: dict[str, Any]) -> str:
    text = data.get("text")
    if not isinstance(text, str) or not text:
        raise RequestError("text must be a text with at least one character.", param="text")
    return clean_text(text, "text")


def _uuid(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise RequestError("collection must be the id of a collection.", param="collection") from error
