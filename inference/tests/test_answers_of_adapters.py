"""Which adapter an answer is of: in its row, at every door, and in the cache."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from inference.cache.levels import answer_cache
from inference.hit_writer import hit_writer
from inference.models import ChatModelConfig, Generation, ModelFallback, VerifiedAnswer
from inference.providers import scripted
from inference.providers.base import ChatMessage
from inference.providers.scripted import Script
from inference.tests.doors import DOORS, post
from inference.tests.waiting import until
from inference.verified import digest_of
from llmsite.core.errors import ProviderRejected

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION = "What is the capital of France?"


@sync_to_async
def give(adapter, alias="scripted"):
    ChatModelConfig.objects.filter(alias=alias).update(adapter=adapter)


async def ask(user, **values):
    return (await post(user, "/api/predict", {"prompt": QUESTION, **values})).json()


async def adapters_of_answers():
    await hit_writer.flush()
    return [row.adapter async for row in Generation.objects.order_by("created_at")]


@pytest.mark.flows
@pytest.mark.parametrize("door", DOORS)
async def test_every_door_asks_for_the_adapter_and_writes_it_down(door, alice):
    await give("tiny-1")
    await DOORS[door](alice, QUESTION, "scripted")
    await DOORS[door](alice, QUESTION, "scripted")  # From the cache, which this one had filled.
    assert [call.request.model for call in scripted.calls] == ["tiny-1"]
    assert await adapters_of_answers() == ["tiny-1", "tiny-1"]


async def test_without_an_adapter_there_is_none_in_the_row(alice):
    await ask(alice)
    await ask(alice)
    assert await adapters_of_answers() == ["", ""]


async def test_a_fallback_writes_down_its_own_adapter(alice, models):
    await give("tiny-1")
    await give("other-1", alias="echo")
    await sync_to_async(ModelFallback.objects.create)(model=models["scripted"], fallback=models["echo"])
    scripted.play(Script(pieces=(), error=ProviderRejected(provider="scripted", status=404)))
    assert (await ask(alice))["model"] == "echo"
    assert await adapters_of_answers() == ["other-1"]


async def test_the_cache_never_tells_an_answer_of_another_adapter(alice):
    told = []
    for adapter in ("", "tiny-1", "tiny-2", "tiny-1", ""):
        await give(adapter)
        scripted.play(Script(pieces=(f"by {adapter or 'the base model'}",)))
        answer = await ask(alice)
        told.append((answer["text"], answer["cache"]))
    assert told == [
        ("by the base model", None),
        ("by tiny-1", None),
        ("by tiny-2", None),
        # What stood before is back, and so is what it has said.
        ("by tiny-1", "l1"),
        ("by the base model", "l1"),
    ]


async def test_nor_does_the_level_that_processes_share(alice, settings):
    scripted.play(*(Script(pieces=(text,)) for text in ("by tiny-1", "by tiny-2", "asked anew")))
    told = []
    for adapter in ("tiny-1", "tiny-2", "tiny-1"):
        await give(adapter)
        answer_cache.memory.forget()
        answer = await ask(alice)
        told.append((answer["text"], answer["cache"]))
    kept = ("by tiny-1", "l2") if settings.REDIS_URL else ("asked anew", None)
    assert told == [("by tiny-1", None), ("by tiny-2", None), kept]


async def test_an_answer_that_ends_after_the_switch_is_kept_for_its_own_adapter(alice):
    await give("tiny-1")
    scripted.play(Script(pieces=("by", " tiny-1"), delay=0.2), Script(pieces=("by tiny-2",)))
    asked = asyncio.create_task(ask(alice))
    await until(lambda: scripted.calls)
    await give("tiny-2")
    assert (await asked)["text"] == "by tiny-1"
    assert (await ask(alice))["text"] == "by tiny-2"


async def test_an_answer_that_a_curator_wrote_is_of_no_adapter(alice):
    await give("tiny-1")
    await sync_to_async(VerifiedAnswer.objects.create)(
        digest=digest_of([ChatMessage("user", QUESTION)]), question=QUESTION, answer="Paris.", user=alice
    )
    assert (await ask(alice))["text"] == "Paris."
    assert await adapters_of_answers() == [""]
