"""Work that must not end with the request that began it."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, sync_to_async
from channels.db import database_sync_to_async
from django.db import connections
from django.utils import translation

from llmsite.core import tracing
from llmsite.core.logs import request_id

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def own_context() -> Context:
    """A context that keeps the request's id, trace and language, and nothing else of it.

    Django gives each request a thread for its synchronous calls and takes it away at the end.
    """
    context = Context()
    context.run(request_id.set, request_id.get())
    tracing.carry(context)
    if language := translation.get_language():
        context.run(translation.activate, language)
    if (waiting := getattr(AsyncToSync.executors, "current", None)) is not None:
        # A synchronous caller, such as Django's test client, waits above us, and runs such calls itself.
        context.run(setattr, AsyncToSync.executors, "current", waiting)
    return context


def in_any_thread(function: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """`function`, which uses the database, in a thread of the loop's pool: it waits for no other such work.

    What is spawned shares one thread otherwise, and one statement that waits for a lock holds up all of it.
    """
    # A synchronous caller above us, such as Django's test client, has the connection that has to be used.
    if getattr(AsyncToSync.executors, "current", None) is not None:
        return database_sync_to_async(function)
    return sync_to_async(partial(_with_own_connection, function), thread_sensitive=False)


def _with_own_connection(function: Callable[..., T], *args: Any) -> T:
    try:
        return function(*args)
    finally:
        connections.close_all()


class DatabaseThread:
    """A thread with a connection of its own, which stays open from one call to the next, until `rest`."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """`function` in the thread. A connection that failed is not used again."""
        if getattr(AsyncToSync.executors, "current", None) is not None:  # As above.
            return await database_sync_to_async(function)(*args)
        try:
            return await self._call(function, *args)
        except Exception:
            await self.rest()
            raise

    async def rest(self) -> None:
        """Close the connection; the next call opens one."""
        if getattr(AsyncToSync.executors, "current", None) is None:
            await self._call(connections.close_all)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return await sync_to_async(function, thread_sensitive=False, executor=self._pool)(*args)


def spawn(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start `work` as a task of its own, which the event loop cannot lose."""
    task = asyncio.get_running_loop().create_task(work, context=own_context())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work`, which goes on to its end even where the waiting is cancelled."""
    return await asyncio.shield(spawn(work))
