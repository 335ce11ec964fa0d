"""A thumbs-down takes the answer out of the cache: on every level, in every process, for all who share it."""

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as site_settings
from django.db import OperationalError
from redis.exceptions import ConnectionError as RedisAway

from accounts.keys import create_key
from accounts.tests.redis_servers import own_redis
from inference.cache import semantic
from inference.cache.evictions import evict
from inference.cache.levels import answer_cache
from inference.cache.semantic import SemanticHit
from inference.hit_writer import hit_writer
from inference.models import ChatModelConfig, EvictedAnswer, Generation
from inference.providers import scripted
from inference.tests.doors import post
from inference.tests.mixed_calls import client_of, sites

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION = "What is the capital of France?"


async def ask(user, prompt=QUESTION, **values):
    return (await post(user, "/api/predict", {"prompt": prompt, **values})).json()


async def rate(user, reply, rating, **values):
    answer = await post(user, "/api/feedback", {"message": reply["message"], "rating": rating, **values})
    assert answer.status_code in (200, 201), answer.content


@pytest.mark.flows
async def test_a_bad_answer_is_not_told_again(alice):
    first, kept = await ask(alice), await ask(alice)
    assert kept["cache"] == "l1"
    # Its rows are written behind it: what says of it waits for them.
    await rate(alice, kept, -1)

    anew, again = await ask(alice), await ask(alice)
    assert (anew["cache"], again["cache"]) == (None, "l1")
    assert len(scripted.calls) == 2
    assert first["text"] == again["text"]


async def test_nor_is_one_that_was_rated_before_anybody_was_told_it_again(alice):
    await rate(alice, await ask(alice), -1)
    assert (await ask(alice))["cache"] is None


async def test_a_good_one_stays_until_it_is_called_bad(alice):
    reply = await ask(alice)
    await rate(alice, reply, 1)
    assert (await ask(alice))["cache"] == "l1"
    await rate(alice, reply, -1)
    assert (await ask(alice))["cache"] is None


async def test_what_could_not_be_taken_out_is_when_it_is_said_again(alice, monkeypatch):
    reply = await ask(alice)

    def locked(*_args, **_values):
        raise OperationalError("database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(EvictedAnswer.objects, "put", locked)
        said = {"message": reply["message"], "rating": -1}
        assert (await post(alice, "/api/feedback", said)).status_code == 503
    await rate(alice, reply, -1)
    assert (await ask(alice))["cache"] is None


async def test_more_words_about_a_bad_one_leave_its_successor(alice):
    reply = await ask(alice)
    await rate(alice, reply, -1)
    await ask(alice)
    await rate(alice, reply, -1, comment="It is not that.")
    assert (await ask(alice))["cache"] == "l1"


async def test_others_who_share_it_are_told_another_one_too(alice, bob):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(cache_scope="site")
    reply = await ask(alice)
    assert (await ask(bob))["cache"] == "l1"
    await rate(alice, reply, -1)
    assert (await ask(bob))["cache"] is None


async def test_other_answers_stay(alice, bob):
    await ask(bob)
    other = await ask(alice, "What is a fox?")
    await rate(alice, await ask(alice), -1)
    assert (await ask(bob))["cache"] == "l1"
    assert (await ask(alice, "What is a fox?"))["text"] == other["text"]
    assert len(scripted.calls) == 3


async def test_every_answer_knows_where_it_is_kept(alice):
    await ask(alice)
    await ask(alice)
    await ask(alice, use_cache=False)
    await post(alice, "/api/predict/stream", {"prompt": QUESTION})
    await hit_writer.flush()
    [(key, _)] = answer_cache.memory._entries.items()
    assert {row.cache_key async for row in Generation.objects.all()} == {key}


async def test_one_that_is_kept_nowhere_takes_nothing_out(alice):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(cache_scope="off")
    await rate(alice, await ask(alice), -1)
    assert not await EvictedAnswer.objects.aexists()


async def test_it_stays_out_where_a_store_cannot_be_asked_to_delete_it(alice, monkeypatch):
    reply = await ask(alice)
    [(_, kept)] = answer_cache.memory._entries.values()

    def away(_key):
        raise RedisAway

    monkeypatch.setattr(answer_cache.shared, "delete_in_thread", away)
    await rate(alice, reply, -1)
    # As where another process had it in its memory, or Redis is back.
    answer_cache.memory.keep(kept, seconds=60)
    if site_settings.REDIS_URL:
        await answer_cache.shared.keep(kept, seconds=60)
    assert (await ask(alice))["cache"] is None


async def test_nor_is_it_told_to_a_question_in_other_words(alice, settings, monkeypatch):
    settings.SEMANTIC_CACHE = True
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(semantic_cache=True)
    await ask(alice, temperature=0)
    [(_, kept)] = answer_cache.memory._entries.values()

    async def find(_partition, _question):
        return SemanticHit(kept.dumps(), 0.93, QUESTION)

    monkeypatch.setattr(semantic, "find", find)
    alike = await ask(alice, "What is France's capital?", temperature=0)
    assert alike["cache"] == "l3"
    await rate(alice, alike, -1)
    assert (await ask(alice, "Which is France's capital?", temperature=0))["cache"] is None
    assert (await ask(alice, temperature=0))["cache"] is None


async def test_what_was_taken_out_long_ago_is_forgotten(alice, settings):
    reply = await ask(alice)
    await rate(alice, reply, -1)
    settings.CACHE_TTL = 0
    await sync_to_async(evict)("another")
    assert [row.key async for row in EvictedAnswer.objects.all()] == ["another"]


# --- Several processes --------------------------------------------------------------------------------


async def test_no_process_tells_it(standin, vendors, staff):
    _, key = await sync_to_async(create_key)(staff, "script")
    with ExitStack() as stack:
        redis = stack.enter_context(own_redis())
        webs = sites(stack, standin, 2, REDIS_URL=redis.url)
        async with AsyncExitStack() as opened:
            headers = {"Authorization": f"Bearer {key}"}
            one, other = [await opened.enter_async_context(client_of(web, headers)) for web in webs]
            body = {"prompt": QUESTION, "model": "gpt"}

            async def told_by(client):
                return (await client.post("/api/predict", json=body)).json()

            reply = await told_by(one)
            await _until_cached(told_by, other)
            assert len(standin.calls) == 1
            said = await one.post("/api/feedback", json={"message": reply["message"], "rating": -1})
            assert said.status_code == 201, said.text
            # Read beside the questions twice a second, by a process that is busy.
            async with asyncio.timeout(10):
                while (anew := await told_by(other))["cache"] is not None:  # noqa: ASYNC110 - another process's
                    await asyncio.sleep(0.05)
            assert anew["text"]
            assert len(standin.calls) == 2


async def _until_cached(told_by, client):
    """The answer is kept in Redis a moment after it was told."""
    async with asyncio.timeout(10):
        while (await told_by(client))["cache"] != "l1":  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)
