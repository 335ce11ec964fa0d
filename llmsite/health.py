"""Whether the site runs, and whether it can work. Neither ever calls a paid model.

Whoever asks need not be signed in, so that what is told names no folder, no address and no one.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
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
from llmsite.core.disk import short_of_space
from llmsite.core.event_stream import EventStream
from llmsite.core.outlet import Outlet
from llmsite.core.rest import json_door
from llmsite.core.worker import standstill
from llmsite.metrics.gauges import model_health
from training.models.runs import no_trainer

PART_SECONDS = 2.0
TICKS = 5
TICK_SECONDS = 0.2

NOT_NEEDED = ("index", "trainer", "disk")
"""Questions are answered without them: a web process is not taken out of service for their sake."""

Check = Callable[[], Awaitable[str | None]]

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
    """200 where all parts work that answers need, else 503; each part is true, or says what is wrong."""
    checks: dict[str, Check] = {
        "database": database_sync_to_async(_database),
        "migrations": database_sync_to_async(_migrations),
        "cache": database_sync_to_async(_cache),
        "model": _model,
        "worker": database_sync_to_async(standstill),
        "index": _index,
        "trainer": database_sync_to_async(no_trainer),
        "disk": partial(asyncio.to_thread, _disk),
    }
    states = await asyncio.gather(*(_part(check) for check in checks.values()))
    parts: dict[str, dict[str, Any]] = dict(zip(checks, states, strict=True))
    for name in NOT_NEEDED:
        parts[name]["needed"] = False
    if live_answers.is_draining:
        parts["web"] = {"ok": False, "reason": "This process is about to stop."}
    ok = all(part["ok"] or not part.get("needed", True) for part in parts.values())
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


async def _part(check: Check) -> dict[str, Any]:
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


async def _index() -> str | None:
    """Documents are searched, and taken in, by the process `model`, with its encoder."""
    told = await model_health()
    if told is None:
        return "The process of the indexes is not running; its log says why."
    status = (told.get("embedder") or {}).get("status")
    return None if status == "ready" else f"The embedding model is not ready ({status}); its log says why."


def _disk() -> str | None:
    short = short_of_space()
    return f"Little space is left on the disks of {', '.join(short)}." if short else None
