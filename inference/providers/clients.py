"""One SDK client for each event loop."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary


class Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class LoopClients(Generic[C]):
    """Builds a client for the running loop when it is first asked for, and closes it with that loop.

    A client's pooled connections belong to the loop they were opened on, while a provider is shared
    by all of a process: the server's loop, and the short one of every `async_to_sync`.
    """

    def __init__(self, build: Callable[[], C]) -> None:
        self._build = build
        self._opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[C]] = WeakKeyDictionary()
        self._keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]]
        self._keepers = WeakKeyDictionary()

    async def get(self) -> C:
        loop = asyncio.get_running_loop()
        if loop not in self._opening:
            self._opening[loop] = loop.create_task(self._open(loop))
        # Several callers wait for one build; one of them that is cancelled must not end it.
        return await asyncio.shield(self._opening[loop])

    async def close(self) -> None:
        """Close the client of the running loop."""
        if keeper := self._keepers.get(asyncio.get_running_loop()):
            await keeper.aclose()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> C:
        try:
            # Building imports the SDK, up to two seconds in which the loop serves others.
            client = await asyncio.to_thread(self._build)
        except BaseException:
            del self._opening[loop]
            raise
        self._keepers[loop] = self._keep(client, loop)
        await anext(self._keepers[loop])
        return client

    async def _keep(self, client: C, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Parked for as long as the loop lives: `shutdown_asyncgens` resumes it before the loop ends."""
        try:
            yield
        finally:
            self._opening.pop(loop, None)
            self._keepers.pop(loop, None)
            await client.close()
