"""A flight ends with the last one aboard, however early that one leaves."""

import asyncio

from inference.cache.levels import Lookup
from inference.cache.stage import Cached, flights, through_cache
from inference.providers.base import Finished, TextDelta
from inference.tests.waiting import until


async def test_who_leaves_before_the_first_event_is_counted_no_longer():
    closed = asyncio.Event()

    async def make(take):
        try:
            take(TextDelta("One"))
            await asyncio.get_running_loop().create_future()
        finally:
            closed.set()

    def follow(take):
        return asyncio.create_task(through_cache(lookup, make, take, reach=frozenset()))

    async def leave(follower):
        follower.cancel()
        await asyncio.wait([follower])

    lookup = Lookup(model="m", key="tag:key")
    told, others = [], []
    first = follow(told.append)
    await until(lambda: told)
    other = follow(others.append)
    await until(lambda: others)
    assert others == [Cached("l1"), TextDelta("One")]
    await leave(other)
    assert not closed.is_set()
    await leave(first)
    assert closed.is_set()
    assert len(flights) == 0


def paced():
    """A call whose items come out of a queue, and whether it was closed before its end."""
    items, cut = asyncio.Queue(), asyncio.Event()

    async def make(take):
        try:
            while (item := await items.get()) is not None:
                take(item)
        except asyncio.CancelledError:
            cut.set()
            raise

    return items, cut, make


async def test_who_is_leaving_takes_no_more():
    items, _, make = paced()
    lookup = Lookup(model="m", key="tag:leaving")
    stays, leaves = [], []
    first = asyncio.create_task(through_cache(lookup, make, stays.append, reach=frozenset()))
    items.put_nowait(TextDelta("One"))
    await until(lambda: stays)
    other = asyncio.create_task(through_cache(lookup, make, leaves.append, reach=frozenset()))
    await until(lambda: leaves)

    # The call wakes before the one that leaves.
    items.put_nowait(TextDelta("Two"))
    other.cancel()
    await until(lambda: len(stays) == 2)

    assert leaves == [Cached("l1"), TextDelta("One")]
    first.cancel()
    await asyncio.wait([first, other])


async def test_the_end_waits_for_nothing_behind_it():
    items, cut, make = paced()
    lookup = Lookup(model="m", key="tag:end")
    told = []
    follower = asyncio.create_task(through_cache(lookup, make, told.append, reach=frozenset()))
    for item in (TextDelta("One"), Finished("stop", None)):
        items.put_nowait(item)

    async with asyncio.timeout(5):
        await follower

    assert told == [TextDelta("One"), Finished("stop", None)]
    assert len(flights) == 0
    # The call puts itself away in its own time.
    assert not cut.is_set()
    items.put_nowait(None)
