"""Waiting for something to become true, without guessing how long that takes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def until(condition: Callable[[], T], *, seconds: float = 10.0) -> T:
    """The first true value of `condition()`; the limit is for a test that fails."""
    async with asyncio.timeout(seconds):
        while not (found := await sync_to_async(condition)()):  # noqa: ASYNC110 - any condition can be given
            await asyncio.sleep(0.01)
    return found
