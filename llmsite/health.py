"""Whether the site runs, and whether it can work. Neither ever calls a paid model."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from redis.exceptions import RedisError

import llmsite
from inference.live import live_answers
from llmsite.core import http
from llmsite.core.event_stream import EventStream
from llmsite.core.outlet import Outlet
from llmsite.core.rest import json_door
from llmsite.core.worker import standstill

PART_SECONDS = 2.0
TICKS = 5
TICK_SECONDS = 0.2

ENDPOINTS = ["/", "/api/predict", "/api/predict/stream", "/ws/chat/", "/health/ready"]


@json_door("GET", "HEAD")
async def live(request: HttpRequest) -> JsonResponse:
    body = {
        "status": "ok",
        "version": llmsite.__version__,
        "timestamp": timezone.now(),
        "endpoints": ENDPOINTS,
    }
    return JsonResponse(body)


@json_door("GET", "HEAD")
async def ready(request: HttpRequest) -> JsonResponse:
    """200 where all parts work, else 503; each part is true, or says what is wrong."""
    names = ("database", "migrations", "cache", "model", "worker")
    states = await asyncio.gather(
        _part(database_sync_to_async(_database)),
        _part(database_sync_to_async(_migrations)),
        _part(database_sync_to_async(_cache)),
        _part(_model),
        _part(database_sync_to_async(standstill)),
    )
    parts: dict[str, Any] = dict(zip(names, states, strict=True))
    if live_answers.is_draining:
        parts["web"] = {"ok": False, "reason": "This process is about to stop."}
    ok = all(part["ok"] for part in parts.values())
    return JsonResponse({"ready": ok, "parts": parts}, status=200 if ok else 503)


@json_door("GET")
async def stream(request: HttpRequest) -> HttpResponseBase:
    """A second's slow events, by which `manage.py doctor` sees whether a proxy gathers them."""
    return EventStream(_ticks(), Outlet())


async def _ticks() -> AsyncGenerator[bytes, None]:
    for tick in range(TICKS):
        if tick:
            await asyncio.sleep(TICK_SECONDS)
        yield f"event: tick\ndata: {tick}\n\n".encode()


async def _part(check: Callable[[], Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PART_SECONDS):
            reason = await check()
    except TimeoutError:
        reason = f"No answer within {PART_SECONDS:g} s."
    except Exception as error:
        # The kind of error only: its text may hold an address or a password.
        reason = f"It does not work ({type(error).__name__})."
    return {"ok": True} if reason is None else {"ok": False, "reason": reason}


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _migrations() -> str | None:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"{len(missing)} migrations are missing: run `python manage.py migrate`." if missing else None


def _cache() -> str | None:
    if not settings.REDIS_URL:
        return None
    try:
        cache.set("llmsite:health", "ok", 10)
        kept = cache.get("llmsite:health") == "ok"
    except (RedisError, OSError):
        return "The Redis of REDIS_URL does not answer."
    return None if kept else "The cache does not keep what it is given."


async def _model() -> str | None:
    if settings.LOCAL_BASE_URL:
        # Servers of others agree on this address, and not on one for their health.
        url, who = f"{settings.LOCAL_BASE_URL.removesuffix('/v1')}/v1/models", "The server of LOCAL_BASE_URL"
    else:
        url, who = f"{settings.MODEL_URL}/health", "The model process"
    try:
        async with http.send("GET", url, connect_timeout=PART_SECONDS) as response:
            return None if response.status == 200 else f"{who} answers with status {response.status}."
    except OSError:
        return f"{who} is not running; its log says why."
