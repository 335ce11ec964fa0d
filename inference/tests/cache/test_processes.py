"""Several web processes with one Redis: one cache, one flight, one clearing."""

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest
from asgiref.sync import sync_to_async

from accounts.keys import create_key
from accounts.tests.redis_servers import own_redis
from inference.tests.mixed_calls import client_of, sites
from inference.tests.standin import Answer

pytestmark = pytest.mark.django_db(transaction=True)

QUESTION = "What is the capital of France?"


@pytest.fixture
def webs(standin, vendors):
    # A Redis of their own: tests that run beside these empty the common one.
    with ExitStack() as stack:
        redis = stack.enter_context(own_redis())
        yield sites(stack, standin, 2, REDIS_URL=redis.url)


@pytest.fixture
async def clients(webs, staff):
    """Of one person, to each of the processes."""
    _, key = await sync_to_async(create_key)(staff, "script")
    async with AsyncExitStack() as opened:
        headers = {"Authorization": f"Bearer {key}"}
        yield [await opened.enter_async_context(client_of(web, headers)) for web in webs]


async def ask(client, prompt=QUESTION, **values):
    answer = await client.post("/api/predict", json={"prompt": prompt, "model": "gpt", **values})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_one_process_was_told_the_other_one_knows(clients, standin):
    one, other = clients
    first = await ask(one)
    await _until_shared(other)
    assert (await ask(other))["cache"] == "l1"
    assert (await ask(one))["cache"] == "l1"
    assert first["cache"] is None
    assert len(standin.calls) == 1


async def _until_shared(client):
    """The answer is kept in Redis a moment after it was told."""
    async with asyncio.timeout(10):
        while (await ask(client))["cache"] not in ("l2", "l1"):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)


async def test_equal_questions_to_both_are_one_call(clients, standin):
    standin.script(Answer(pieces=("One", " two", " three"), gap=0.3))
    answers = await asyncio.gather(*(ask(clients[number % 2]) for number in range(20)))
    assert len(standin.calls) == 1
    assert {answer["text"] for answer in answers} == {"One two three"}
    assert sum(answer["cache"] is None for answer in answers) == 1


async def test_clearing_in_one_clears_both(clients, standin):
    one, other = clients
    await ask(one)
    await _until_shared(other)
    cleared = await one.delete("/api/cache")
    assert cleared.status_code == 200, cleared.text
    assert (await ask(other))["cache"] is None
    assert len(standin.calls) == 2
