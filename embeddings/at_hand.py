"""An encoder and indexes for commands: those of the process `model` where it runs, else some of their own."""

import asyncio
import os
import socket
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings

from embeddings.errors import EncoderError
from llmsite.core.devices import wait_asleep
from llmsite.core.model_process import RequestError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response

    from embeddings.embedder import Embedder

LOOK_SECONDS = 0.05


@contextmanager
def model_process() -> Iterator[None]:
    """While this lasts, an encoder and indexes answer at MODEL_URL; they are loaded here where none did.

    Raises EncoderError where the encoder cannot be loaded.
    """
    if answers(settings.MODEL_URL):
        yield
        return
    from embeddings.embedder import Embedder
    from embeddings.encoder import load_encoder

    wait_asleep(os.environ)
    name = settings.EMBEDDING_MODEL
    with served(Embedder(name, lambda: load_encoder(name, device=settings.DEVICE))) as url:
        before, settings.MODEL_URL = settings.MODEL_URL, url
        try:
            yield
        finally:
            settings.MODEL_URL = before


def answers(url: str) -> bool:
    """Whether a model process is there, ready or not."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=settings.CONNECT_TIMEOUT) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


@contextmanager
def served(embedder: "Embedder") -> Iterator[str]:
    """The address where `embedder`, loaded now, and indexes are served by a thread of this process."""
    import uvicorn

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(_application(embedder), log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="model process")
        thread.start()
        try:
            while not server.started or embedder.is_loading:
                time.sleep(LOOK_SECONDS)
            health = embedder.health()
            if health["status"] == "failed":
                raise EncoderError(health["reason"])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _application(embedder: "Embedder") -> "Starlette":
    from starlette.applications import Starlette

    from embeddings.indexes.server import IndexService
    from embeddings.server import embedding_routes

    service = IndexService(embedder, settings.INDEX_ROOT)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        embedder.start()
        yield
        for part in (service, embedder):
            await asyncio.to_thread(part.close)

    handlers: dict[Any, Any] = {RequestError: _refuse}
    routes = [*embedding_routes(embedder), *service.routes]
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


async def _refuse(_request: Any, error: Exception) -> "Response":
    from starlette.responses import JSONResponse

    assert isinstance(error, RequestError)
    return JSONResponse(error.body, error.status)
