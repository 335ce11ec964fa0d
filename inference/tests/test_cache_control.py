"""What `Cache-Control` of a request asks of the cache, at each door for programs."""

import pytest

from inference.providers import scripted
from inference.tests.doors import post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

TURNS = {"model": "scripted", "messages": [{"role": "user", "content": "What is a fox?"}]}
DOORS = {
    "/api/predict": {"prompt": "What is a fox?", "model": "scripted"},
    "/api/predict/stream": {"prompt": "What is a fox?", "model": "scripted"},
    "/v1/chat/completions": TURNS,
    "/v1/messages": {**TURNS, "max_tokens": 50},
}


@pytest.fixture(params=DOORS)
def ask(request, alice):
    async def ask(**headers):
        answer = await post(alice, request.param, DOORS[request.param], **headers)
        assert answer.status_code == 200
        if answer.streaming:
            _ = [chunk async for chunk in answer.streaming_content]
        return answer["x-llmsite-cache"]

    return ask


async def test_an_answer_that_may_not_be_kept_is_not(ask):
    assert await ask(**{"Cache-Control": "max-age=0, No-Store"}) == "miss"
    assert await ask() == "miss"
    assert len(scripted.calls) == 2


async def test_nor_is_it_one_that_was_kept(ask):
    await ask()
    assert await ask(**{"Cache-Control": "no-store"}) == "miss"


async def test_a_fresh_answer_is_kept(ask):
    await ask()
    assert await ask(**{"Cache-Control": "no-cache"}) == "miss"
    assert await ask() == "hit-l1"
    assert len(scripted.calls) == 2


async def test_other_directives_ask_for_nothing(ask):
    await ask()
    assert await ask(**{"Cache-Control": "max-age=0"}) == "hit-l1"
