"""The ASGI application: pages and APIs through Django, sockets through Channels, and its lifespan."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from llmsite.handler import get_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
django_application = get_application()

# These read models and settings, so they come after Django is set up.
import structlog  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from accounts.tokens import forget_ended_sign_ins  # noqa: E402
from accounts.websocket import SocketGate  # noqa: E402
from inference.idempotency import forget_old_keys  # noqa: E402
from inference.sweeper import Sweeper  # noqa: E402
from inference.urls import sockets  # noqa: E402
from llmsite.metrics.summary import log_summary  # noqa: E402

log = structlog.get_logger("llmsite.asgi")

SWEEP_SECONDS = 5.0
FORGET_SECONDS = 3600.0


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """While the server runs: end the answers of dead processes, and forget what has ended; then sum up."""
    await receive()
    chores = [
        asyncio.create_task(_every(SWEEP_SECONDS, Sweeper().sweep)),
        asyncio.create_task(_every(FORGET_SECONDS, database_sync_to_async(forget_ended_sign_ins))),
        asyncio.create_task(_every(FORGET_SECONDS, database_sync_to_async(forget_old_keys))),
    ]
    await send({"type": "lifespan.startup.complete"})
    await receive()
    for chore in chores:
        chore.cancel()
    log_summary()
    await send({"type": "lifespan.shutdown.complete"})


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            # The database may be away for a while; the next round tries again.
            log.warning("chore_failed", work=repr(work), error=repr(error))
        await asyncio.sleep(seconds)


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": SocketGate(URLRouter(sockets)),
        "lifespan": lifespan,
    }
)
