"""The mirror of events in Redis, for readers in other processes."""

import uuid
from contextlib import aclosing

from accounts.tests.redis_servers import own_redis
from inference.mirror import EventMirror


async def test_a_reader_waits_on_while_nothing_comes():
    with own_redis() as server:
        async with aclosing(EventMirror(server.url).follow(uuid.uuid4(), -1, tick=0.05)) as events:
            assert [await anext(events) for _ in range(3)] == [None, None, None]
