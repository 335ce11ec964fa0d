"""The ASGI application: pages and APIs through Django, sockets through Channels, and its lifespan."""

import asyncio
import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
django_application = get_asgi_application()

# These read models and settings, so they come after Django is set up.
import structlog  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.db import DatabaseError  # noqa: E402

from accounts.websocket import CredentialMiddleware  # noqa: E402
from inference import generations  # noqa: E402
from inference.urls import sockets  # noqa: E402

log = structlog.get_logger("llmsite.asgi")

SWEEP_SECONDS = 5.0


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """While the server runs, look now and then for answers whose process died."""
    await receive()
    sweeper = asyncio.create_task(_sweep_for_ever())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    sweeper.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def _sweep_for_ever() -> None:
    while True:
        try:
            await generations.sweep()
        except DatabaseError as error:
            log.warning("sweep_failed", error=str(error))
        await asyncio.sleep(SWEEP_SECONDS)


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": CredentialMiddleware(URLRouter(sockets)),
        "lifespan": lifespan,
    }
)
