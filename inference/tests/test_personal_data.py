"""What an erasure does with answers: those under way, those of a dead process, and their events."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from redis import Redis
from redis.exceptions import RedisError

from inference import generations, personal_data
from inference.ask import Ask
from inference.event_log import EventLog
from inference.events import Delta
from inference.mirror import EventMirror, event_mirror
from inference.models import Conversation, Generation, Message
from inference.providers import scripted
from inference.tests.waiting import until
from llmsite.core.errors import ErasureUnfinished

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]


@pytest.fixture
def generation(transactional_db, alice):
    """An answer that is being written, by a process that nobody hears of any more."""
    conversation = Conversation.objects.create(owner=alice)
    message = Message.objects.create(conversation=conversation, role="assistant", content="so far")
    return Generation.objects.create(user=alice, message=message, status="streaming", door="api")


async def mirror(log, text):
    log.append(Delta(text))
    event_mirror.append(log.newest())
    await event_mirror.flush()


async def test_an_emptied_mirror_takes_nothing_from_a_writer_that_is_late(generation):
    log = EventLog(generation.pk)
    await mirror(log, "before")
    assert await event_mirror.pieces(generation.pk) == (["before"] if settings.REDIS_URL else [])

    count = await asyncio.to_thread(event_mirror.forget, [generation.pk])
    await mirror(log, "after")

    assert count == (1 if settings.REDIS_URL else 0)
    assert await asyncio.to_thread(event_mirror.forget, [generation.pk]) == 0
    assert kept_in_redis(generation.pk) == 0
    other = EventLog(Generation().pk)
    await mirror(other, "of somebody else")
    assert await event_mirror.pieces(other.generation_id) == (
        ["of somebody else"] if settings.REDIS_URL else []
    )


def kept_in_redis(generation_id):
    if not settings.REDIS_URL:
        return 0
    with Redis.from_url(settings.REDIS_URL) as redis:
        return redis.xlen(f"llmsite:events:{generation_id}")


async def test_a_mirror_that_takes_no_orders_is_not_taken_for_empty(generation):
    await mirror(EventLog(generation.pk), "before")
    if not settings.REDIS_URL:
        return
    with Redis.from_url(settings.REDIS_URL) as redis:
        # As one that is out of memory: it answers, and writes nothing.
        redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(RedisError):
                await asyncio.to_thread(event_mirror.forget, [generation.pk])
        finally:
            redis.config_set("maxmemory", 0)


async def test_a_running_answer_has_ended_before_anything_is_deleted(alice, models, monkeypatch):
    await generations.start(Ask(user=alice, door="test", prompt="Go on", model="endless"))
    await until(lambda: scripted.calls and scripted.calls[-1].pieces >= 3)
    left = []

    def erase_rows(*args):
        left.extend(Generation.objects.values_list("status", flat=True))
        return {}

    monkeypatch.setattr(personal_data, "_erase_rows", erase_rows)
    monkeypatch.setattr(personal_data, "WAIT_SECONDS", 30)
    async with asyncio.timeout(15):  # It ends as soon as the answer has, not when the wait is over.
        await asyncio.to_thread(in_thread, alice)

    assert left == ["stopped"]


def in_thread(user):
    """As a request does it: in a thread of its own, beside the event loop that writes answers."""
    try:
        return personal_data.erase(user)
    finally:
        connections.close_all()


async def test_an_erasure_does_not_wait_for_a_process_that_died(generation, alice, monkeypatch):
    monkeypatch.setattr(personal_data, "WAIT_SECONDS", 0.2)

    counts = await sync_to_async(personal_data.erase)(alice)

    assert (counts["conversations"], counts["messages"], counts["answers"]) == (1, 1, 1)
    assert not await Generation.objects.aexists()


async def test_rows_stay_while_the_mirror_cannot_be_emptied(generation, alice, monkeypatch):
    """They name what is in it: without them the next run would not find it."""
    monkeypatch.setattr(personal_data, "WAIT_SECONDS", 0)
    monkeypatch.setattr(personal_data, "event_mirror", EventMirror("redis://127.0.0.1:1/0"))

    with pytest.raises(ErasureUnfinished):
        await sync_to_async(personal_data.erase)(alice)

    assert await Generation.objects.aexists()
