"""Deadlines of many short waits: they hold like `asyncio.timeout`, and take one timer."""

import asyncio
from contextlib import closing

import pytest

from llmsite.core.patience import Patience

SOON, LATE = 0.02, 60.0


def clock():
    return asyncio.get_running_loop().time()


async def test_a_wait_that_is_too_long_ends():
    with closing(Patience()) as patience:
        with pytest.raises(TimeoutError), patience.until(clock() + SOON):
            await asyncio.sleep(LATE)

        assert not asyncio.current_task().cancelling()
        await asyncio.sleep(0)  # And the task goes on.


@pytest.mark.parametrize("before", [SOON, LATE])
async def test_each_wait_has_its_own_deadline(before):
    with closing(Patience()) as patience:
        with patience.until(clock() + before):
            await asyncio.sleep(0)
        await asyncio.sleep(2 * SOON)  # Nobody waits when the first deadline comes.
        with patience.until(clock() + LATE):
            await asyncio.sleep(2 * SOON)
        with pytest.raises(TimeoutError), patience.until(clock() + SOON):
            await asyncio.sleep(LATE)


async def test_a_timer_that_rings_before_the_deadline_of_a_later_wait_ends_nothing():
    with closing(Patience()) as patience:
        with patience.until(clock() + SOON):
            await asyncio.sleep(0)
        with patience.until(clock() + LATE):
            await asyncio.sleep(2 * SOON)
        with pytest.raises(TimeoutError), patience.until(clock() + SOON):
            await asyncio.sleep(LATE)


async def test_a_deadline_that_has_passed_ends_the_next_wait():
    with closing(Patience()) as patience, pytest.raises(TimeoutError), patience.until(clock() - 1):
        await asyncio.sleep(LATE)


async def test_a_cancellation_from_outside_stays_one():
    async def wait():
        with closing(Patience()) as patience, patience.until(clock() + LATE):
            await asyncio.sleep(LATE)

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancellation_at_the_very_deadline_wins():
    async def wait():
        with closing(Patience()) as patience, patience.until(clock() + SOON):
            try:
                await asyncio.sleep(LATE)
            except asyncio.CancelledError:
                asyncio.current_task().cancel()
                raise

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(wait())


async def test_a_thousand_waits_take_one_timer(monkeypatch):
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda *args, **given: timers.append(args) or call_at(*args, **given)
    )

    with closing(Patience()) as patience:
        for _ in range(1000):
            with patience.until(clock() + LATE):
                await asyncio.sleep(0)

    assert len(timers) == 1
