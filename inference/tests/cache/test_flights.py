"""A flight ends with the last one aboard, however early that one leaves."""

import asyncio

from inference.cache.levels import Lookup
from inference.cache.stage import Cached, flights, through_cache
from inference.providers.base import TextDelta


async def test_who_leaves_before_the_first_event_is_counted_no_longer():
    closed = asyncio.Event()

    async def make():
        try:
            yield TextDelta("One")
            await asyncio.get_running_loop().create_future()
        finally:
            closed.set()

    lookup = Lookup(model="m", key="tag:key")
    first = through_cache(lookup, make, reach=frozenset())
    assert await anext(first) == TextDelta("One")
    other = through_cache(lookup, make, reach=frozenset())
    assert await anext(other) == Cached("l1")
    await other.aclose()
    assert not closed.is_set()
    await first.aclose()
    assert closed.is_set()
    assert len(flights) == 0
