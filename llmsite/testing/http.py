"""An HTTP server for tests: uvicorn, which otherwise takes a fifth of a second to end."""

import asyncio
import socket

import uvicorn

TICK = 0.005
LAST_WORDS = 0.1
"""Seconds that connections get where the server is forced to end."""


class PromptServer(uvicorn.Server):
    """Ends as soon as it is told to and nothing is under way."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - another thread may say so
            await asyncio.sleep(TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait(LAST_WORDS if self.force_exit else self.config.timeout_graceful_shutdown or 0)
        if not self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    async def _wait(self, seconds: float) -> None:
        loop, state = asyncio.get_running_loop(), self.server_state
        deadline = loop.time() + seconds
        while (state.connections or state.tasks) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(TICK)
