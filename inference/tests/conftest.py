"""What the tests of running answers share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from inference.live import live_answers
from inference.mirror import event_mirror
from inference.tests.waiting import until
from llmsite.core.errors import ServerRestarting


@pytest_asyncio.fixture
async def settled() -> AsyncIterator[None]:
    """Nothing that a test began runs on when its event loop ends."""
    yield
    live_answers.stop_all(ServerRestarting())
    await until(lambda: not live_answers)
    await event_mirror.flush()
