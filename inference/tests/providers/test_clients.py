import asyncio

import pytest

from inference.providers.clients import LoopClients


class Client:
    def __init__(self) -> None:
        self.closed_by: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        self.closed_by = asyncio.get_running_loop()


class Factory:
    def __init__(self) -> None:
        self.built: list[Client] = []

    def __call__(self) -> Client:
        self.built.append(Client())
        return self.built[-1]


async def test_one_loop_has_one_client() -> None:
    factory = Factory()
    clients = LoopClients(factory)
    got = await asyncio.gather(*(clients.get() for _ in range(5)))
    assert {id(client) for client in got} == {id(factory.built[0])}
    await clients.close()


async def test_each_loop_has_its_own_and_closes_it() -> None:
    factory = Factory()
    clients = LoopClients(factory)
    here = await clients.get()

    async def get_elsewhere() -> tuple[Client, asyncio.AbstractEventLoop]:
        return await clients.get(), asyncio.get_running_loop()

    there, its_loop = await asyncio.to_thread(asyncio.run, get_elsewhere())
    assert factory.built == [here, there]
    assert there.closed_by is its_loop
    assert here.closed_by is None
    assert await clients.get() is here
    await clients.close()


async def test_a_closed_client_is_built_anew() -> None:
    factory = Factory()
    clients = LoopClients(factory)
    await clients.get()
    await clients.close()
    assert factory.built[0].closed_by is asyncio.get_running_loop()
    assert await clients.get() is factory.built[1]
    await clients.close()


async def test_a_failure_to_build_is_not_kept() -> None:
    failing = iter([ValueError("no"), None])

    def build() -> Client:
        if error := next(failing):
            raise error
        return Client()

    clients = LoopClients(build)
    with pytest.raises(ValueError, match="no"):
        await clients.get()
    assert isinstance(await clients.get(), Client)
    await clients.close()


async def test_a_caller_that_is_cancelled_does_not_end_the_build_for_others() -> None:
    clients = LoopClients(Factory())
    first, second = asyncio.create_task(clients.get()), asyncio.create_task(clients.get())
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Client)
    assert first.cancelled()
    await clients.close()
