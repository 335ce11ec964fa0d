"""One key, one answer: a request that is sent again gets the reply to the first, and asks nobody."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from accounts.models import ApiKey
from accounts.tests.two_processes import send
from accounts.watch import credential_watch
from conftest import bearer
from inference.idempotency import forget_old_keys
from inference.models import Conversation, Generation, IdempotencyKey, Message, Status
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import post
from inference.tests.standin import Answer
from inference.tests.waiting import until
from llmsite.core.errors import ContextLengthExceeded, ProviderTimeout, UpstreamCut
from llmsite.testing.site import Site

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.flows,
    pytest.mark.usefixtures("settled"),
]

QUESTION = {"prompt": "What is the capital of France?"}


async def ask(user, key, body=QUESTION, **headers):
    return await post(user, "/api/predict", body, **{"Idempotency-Key": key}, **headers)


async def count_rows():
    return [await table.objects.acount() for table in (Conversation, Message, Generation, IdempotencyKey)]


async def test_the_second_request_gets_the_reply_to_the_first(alice, models):
    first = await ask(alice, "k1")
    again = await ask(alice, "k1")

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert first.json()["text"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(scripted.calls) == 1
    assert await count_rows() == [1, 2, 1, 1]


async def test_its_body_and_headers_are_those_of_a_request_without_a_key(alice, models):
    with_key = await ask(alice, "k1", {**QUESTION, "use_cache": False})
    without = await post(alice, "/api/predict", {**QUESTION, "use_cache": False})

    assert with_key.json().keys() == without.json().keys()
    for name in ("text", "model", "provider", "cache", "usage", "cost", "finish_reason", "sources"):
        assert with_key.json()[name] == without.json()[name], name
    assert with_key.headers["X-Llmsite-Cache"] == without.headers["X-Llmsite-Cache"] == "miss"
    assert with_key.headers["X-Llmsite-Model"] == without.headers["X-Llmsite-Model"] == "scripted"


async def test_equal_requests_at_the_same_time_are_one(alice, models):
    scripted.play(Script(pieces=("One", " two"), delay=0.1))

    answers = await asyncio.gather(*(ask(alice, "k1", {**QUESTION, "use_cache": False}) for _ in range(8)))

    assert [answer.status_code for answer in answers] == [200] * 8
    assert {answer.content for answer in answers} == {answers[0].content}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 7
    assert len(scripted.calls) == 1
    assert await count_rows() == [1, 2, 1, 1]


async def test_the_order_of_names_does_not_make_another_request(alice, models):
    await ask(alice, "k1", {"prompt": "Hello", "model": "scripted"})

    again = await ask(alice, "k1", {"model": "scripted", "prompt": "Hello"})

    assert again.headers["Idempotent-Replayed"] == "true"


async def test_the_same_key_with_another_body_is_a_conflict(alice, models):
    await ask(alice, "k1")

    answer = await ask(alice, "k1", {"prompt": "And of Spain?"})

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "idempotency_conflict"
    assert answer.json()["error"]["field"] == "Idempotency-Key"
    assert len(scripted.calls) == 1


async def test_two_people_with_the_same_key_do_not_meet(alice, bob, models):
    mine, theirs = await ask(alice, "k1"), await ask(bob, "k1")

    assert "Idempotent-Replayed" not in theirs.headers
    assert mine.json()["message"] != theirs.json()["message"]


async def test_a_key_of_the_same_person_that_may_not_ask_the_model_gets_no_reply(alice, models):
    await ask(alice, "k1")
    narrow = await sync_to_async(bearer)(alice, allowed_models=["echo"])

    answer = await ask(alice, "k1", **narrow)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "model_not_allowed"


async def test_an_answer_of_the_cache_is_replayed_too(alice, models):
    await post(alice, "/api/predict", QUESTION)

    first, again = await ask(alice, "k1"), await ask(alice, "k1")

    assert first.json()["cache"] == "l1"
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Llmsite-Cache"] == "hit-l1"
    assert len(scripted.calls) == 1
    assert await Generation.objects.acount() == 2


async def test_an_answer_that_broke_off_is_replayed_as_it_was(alice, models):
    scripted.play(Script(pieces=("One",), error=UpstreamCut(provider="scripted")))

    first = await ask(alice, "k1")
    again = await ask(alice, "k1")

    assert first.status_code == again.status_code == 502
    assert first.json() == again.json()
    assert first.json()["error"]["code"] == "upstream_cut"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(scripted.calls) == 1


async def test_a_refusal_of_the_question_is_replayed_as_it_was(alice, models):
    scripted.play(Script(pieces=(), error=ContextLengthExceeded(tokens=9, limit=8)))

    first = await ask(alice, "k1")
    again = await ask(alice, "k1")

    assert first.status_code == again.status_code == 400
    assert first.json()["error"]["code"] == again.json()["error"]["code"] == "context_length_exceeded"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(scripted.calls) == 1


async def test_a_passing_failure_before_the_first_piece_may_be_tried_again(alice, models):
    error = ProviderTimeout(provider="scripted", phase="first_token")
    scripted.play(*[Script(pieces=(), error=error)] * 3)

    first = await ask(alice, "k1")
    scripted.reset()
    answers = await asyncio.gather(*(ask(alice, "k1") for _ in range(4)))

    assert first.status_code == 504
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.content for answer in answers} == {answers[0].content}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 3
    assert len(scripted.calls) == 1
    assert await IdempotencyKey.objects.acount() == 1


async def ask_in(conversation, user, key, body=QUESTION):
    path = f"/api/conversations/{conversation}/messages"
    return await post(user, path, body, **{"Idempotency-Key": key})


async def test_a_question_in_a_conversation_is_asked_once(alice, models):
    here, there = [(await post(alice, "/api/conversations", {})).json()["id"] for _ in range(2)]
    first = await ask_in(here, alice, "k1")
    again = await ask_in(here, alice, "k1")

    assert first.status_code == again.status_code == 202
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    for part in ("conversation", "user_message", "message"):
        assert first.json()[part]["id"] == again.json()[part]["id"]
    generation = first.json()["message"]["generation"]["id"]
    assert again.json()["message"]["generation"]["id"] == generation
    assert await Message.objects.acount() == 2

    others = [await ask_in(there, alice, "k1"), await ask_in(here, alice, "k1", {"prompt": "And of Spain?"})]
    assert [answer.status_code for answer in others] == [409, 409]
    await until(lambda: scripted.calls)
    assert len(scripted.calls) == 1


async def test_another_answer_in_a_conversation_is_made_once(alice, models):
    conversation = (await post(alice, "/api/conversations", {})).json()["id"]
    message = (await ask_in(conversation, alice, "k1")).json()["message"]["id"]
    first = await ask_in(conversation, alice, "k2", {"regenerate": message})
    again = await ask_in(conversation, alice, "k2", {"regenerate": message})

    assert first.json()["user_message"] is again.json()["user_message"] is None
    assert first.json()["message"]["id"] == again.json()["message"]["id"] != message
    assert await Message.objects.acount() == 3


async def test_what_is_refused_before_it_is_stored_does_not_use_up_the_key(alice, models):
    refusals = [
        await ask(alice, "k1", {"prompt": ""}),
        await ask(alice, "k1", Authorization="Bearer nonsense"),
        await ask(alice, "k1", {"prompt": "Hello", "model": "no-such-model"}),
    ]
    alice.monthly_budget_micro = 0
    await alice.asave()
    await models["scripted"].__class__.objects.filter(alias="scripted").aupdate(output_price=10)
    refusals.append(await ask(alice, "k1"))
    assert [answer.status_code for answer in refusals] == [400, 401, 404, 429]
    assert await IdempotencyKey.objects.acount() == 0

    alice.monthly_budget_micro = None
    await alice.asave()
    answer = await ask(alice, "k1")

    assert answer.status_code == 200
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "schlüssel"])
async def test_a_key_that_is_none_is_refused(key, alice, models):
    answer = await ask(alice, key)

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "Idempotency-Key"
    assert not scripted.calls


async def test_a_client_that_left_comes_back_for_its_answer(alice, models):
    headers = await sync_to_async(bearer)(alice)
    scripted.play(Script(pieces=("One", " two", " three"), delay=0.2))
    request = asyncio.ensure_future(
        AsyncClient().post(
            "/api/predict",
            QUESTION,
            content_type="application/json",
            headers={**headers, "Idempotency-Key": "k1"},
        )
    )
    await until(lambda: scripted.calls)
    request.cancel()

    answer = await ask(alice, "k1")

    assert answer.json()["text"] == "One two three"
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert len(scripted.calls) == 1
    assert (await Generation.objects.aget()).status == Status.FINISHED


async def test_a_reader_whose_credential_ends_is_sent_away_and_the_answer_goes_on(alice, models):
    scripted.play(Script(pieces=("One", " two"), delay=0.8))
    request = asyncio.ensure_future(ask(alice, "k1"))
    await until(lambda: scripted.calls)
    await sync_to_async(ApiKey.objects.filter(user=alice).revoke)()
    await credential_watch.check()

    assert (await request).status_code == 401
    answer = await ask(alice, "k1")
    assert answer.json()["text"] == "One two"
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert len(scripted.calls) == 1


async def test_a_key_is_kept_for_a_day(alice, models):
    await ask(alice, "k1")
    kept = IdempotencyKey.objects.all()
    await kept.aupdate(created_at=timezone.now() - timedelta(hours=23, minutes=59))
    assert await sync_to_async(forget_old_keys)() == 0
    assert "Idempotent-Replayed" in (await ask(alice, "k1")).headers

    await kept.aupdate(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    # Also before the chore has come by.
    assert "Idempotent-Replayed" not in (await ask(alice, "k1")).headers
    await kept.aupdate(created_at=timezone.now() - timedelta(hours=24, seconds=1))

    assert await sync_to_async(forget_old_keys)() == 1
    assert await kept.acount() == 0


async def test_a_deleted_conversation_takes_its_key_along(alice, models):
    await ask(alice, "k1")
    await Conversation.objects.all().adelete()

    answer = await ask(alice, "k1")

    assert answer.status_code == 200
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.slow
@pytest.mark.parametrize("redis", [True, False], ids=["redis", "embedded"])
async def test_equal_requests_to_two_processes_are_one(redis, alice, vendors, standin):
    standin.choose = lambda body: Answer(pieces=("One", " two"), head_start=0.5)
    environment = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{standin.url}/v1"}
    environment |= {} if redis else {"REDIS_URL": "", "SEVERAL_WEB_PROCESSES": "1"}
    headers = {**await sync_to_async(bearer)(alice), "Idempotency-Key": "k1"}
    body = {"prompt": "Hello", "model": "gpt", "use_cache": False}

    def ask_all():
        with Site(**environment) as here, Site(**environment) as there, ThreadPoolExecutor(6) as pool:
            sites = [here, there] * 3
            asked = [pool.submit(send, site, "POST", "/api/predict", headers, body) for site in sites]
            return [one.result() for one in asked]

    answers = await asyncio.to_thread(ask_all)

    assert [answer.status for answer in answers] == [200] * 6
    assert {answer.text for answer in answers} == {answers[0].text}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 5
    assert len([call for call in standin.calls if call.method == "POST"]) == 1
    assert await count_rows() == [1, 2, 1, 1]
