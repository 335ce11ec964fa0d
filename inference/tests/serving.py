"""The whole site over HTTP, served from the event loop of the test, so that a test can script its models."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from llmsite.asgi import application
from llmsite.testing.http import PromptServer


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serve while the block runs; the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(application, lifespan="off", log_config=None, access_log=False)
        server = PromptServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await task
