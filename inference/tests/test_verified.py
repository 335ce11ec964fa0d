"""Verified answers as those who ask see them: before the cache and every model, theirs to see, and free."""

import asyncio
import json
import time
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from accounts.models import LedgerEntry
from conftest import bearer, sign_in_client
from embeddings.models import Collection
from inference.hit_writer import hit_writer
from inference.models import Generation, Message, VerifiedAnswer
from inference.providers import scripted
from inference.providers.base import ChatMessage, ToolCall
from inference.tests.doors import DOORS, post, sse
from inference.tests.waiting import until
from inference.verified import digest_of, fold, unverify, verify

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION = "When was the Pfeffermühle founded?"
ANSWER = "In  1933, by Erika Mann,\nin Munich. ¿Sí? 日本 🦊\n"
"""With what a way of telling it word by word could lose."""


async def ask(user, prompt=QUESTION, path="/api/predict", **values):
    answer = await post(user, path, {"prompt": prompt, **values})
    assert answer.status_code == 200, answer.content
    return answer.json()


def turns(*messages):
    return [{"role": role, "content": content} for role, content in messages]


async def chat(user, messages, **values):
    answer = await post(
        user, "/v1/chat/completions", {"model": "scripted", "messages": turns(*messages), **values}
    )
    assert answer.status_code == 200, answer.content
    return answer.json()


def told_by_model():
    return len(scripted.calls)


async def newest_answer():
    """The message that was answered last, read as a curator would."""
    await hit_writer.flush()
    rows = Message.objects.filter(role="assistant").select_related("conversation", "generation")
    return await rows.order_by("-created_at").afirst()


async def verified(user, answer=ANSWER, **scope):
    """An answer that somebody verified to what `user` asks: theirs alone, if nothing else is said."""
    await ask(user)
    return await sync_to_async(verify)(await newest_answer(), answer, **(scope or {"user": user}))


# --- At every door ----------------------------------------------------------------------------------


@pytest.mark.flows
@pytest.mark.parametrize("door", DOORS)
async def test_it_is_told_at_every_door_in_place_of_what_the_cache_has(door, alice):
    await verified(alice)
    assert told_by_model() == 1

    assert await DOORS[door](alice, QUESTION, "scripted") == ANSWER

    await hit_writer.flush()
    assert told_by_model() == 1
    row = await Generation.objects.select_related("message__parent").order_by("-created_at").afirst()
    assert (row.cache, row.cost_micro, row.status, row.finish_reason) == ("verified", 0, "finished", "stop")
    assert row.message.content == ANSWER
    assert row.message.parent.content == QUESTION
    entry = await LedgerEntry.objects.order_by("-pk").afirst()
    assert (entry.cost_micro, entry.input_tokens, entry.output_tokens) == (0, 0, 0)


async def test_it_says_so(alice):
    await verified(alice)
    answer = await post(alice, "/api/predict", {"prompt": QUESTION})
    assert answer["X-Llmsite-Cache"] == "hit-verified"
    assert {name: answer.json()[name] for name in ("cache", "cost", "usage", "sources")} == {
        "cache": "verified",
        "cost": "0",
        "usage": {"input_tokens": 0, "output_tokens": 0},
        "sources": [],
    }
    stream = await post(alice, "/api/predict/stream", {"prompt": QUESTION})
    events = [event async for event in sse(stream)]
    assert events[0]["cache"] == events[-1]["cache"] == "verified"
    assert len(events) > 6  # In words, as a model writes.
    assert "".join(event["text"] for event in events if event["type"] == "delta") == ANSWER
    told = await chat(alice, [("user", QUESTION)])
    assert told["llmsite"]["cache"] == "verified"


async def test_it_is_told_where_its_model_could_not_be_reached(alice):
    await verified(alice)
    assert (await ask(alice, model="unavailable"))["text"] == ANSWER


@pytest.mark.parametrize(
    "again",
    [
        "  when was the PFEFFERMÜHLE\n\tfounded? ",
        "When was the Pfeffermu\u0308hle founded?",
        "Ｗhen\u00a0was the pfeffermühle\u2003founded?",
    ],
)
async def test_equal_means_after_unicode_case_and_space_folding(alice, again):
    await verified(alice)
    assert (await ask(alice, again))["cache"] == "verified"


async def test_another_question_is_another_question(alice):
    await verified(alice)
    for other in ("When was the Pfeffermühle founded", "When was the Pfeffermuhle founded?"):
        assert (await ask(alice, other))["cache"] is None
    assert fold("What is 3²?") != fold("What is 32?")
    assert fold("STRASSE ﬁne") == fold("straße fine")


# --- For whom ---------------------------------------------------------------------------------------


async def test_the_authors_is_the_authors_alone(alice, bob):
    await verified(alice)
    assert (await ask(bob))["cache"] is None
    assert (await ask(alice))["cache"] == "verified"


async def test_everybodys_is_everybodys_and_ones_own_comes_first(alice, bob):
    await verified(alice, "for all", collection=None)
    assert (await ask(bob))["text"] == (await ask(alice))["text"] == "for all"
    await verified(bob, "for Bob")
    assert [(await ask(user))["text"] for user in (alice, bob)] == ["for all", "for Bob"]


@pytest.fixture
def handbook(alice):
    return Collection.objects.create(owner=alice, name="Handbook", visibility="public")


@pytest.fixture
def other(alice):
    return Collection.objects.create(owner=alice, name="Other")


async def test_a_collections_is_for_all_who_ask_it_and_may_read_it(alice, bob, handbook, other):
    await verified(alice, collection=handbook)

    for path, words in (("/api/predict", "prompt"), ("/api/query", "question")):
        answer = await post(bob, path, {words: QUESTION, "collection": str(handbook.pk)})
        assert answer.status_code == 200, answer.content
        assert answer["X-Llmsite-Cache"] == "hit-verified"
    assert answer.json()["answer"] == ANSWER
    assert answer.json()["cache_level"] == "verified"
    assert answer.json()["model_used"] is None
    assert (answer.json()["answered"], answer.json()["sources"]) == (True, [])
    assert (await ask(bob))["cache"] is None
    elsewhere = await post(alice, "/api/query", {"question": QUESTION, "collection": str(other.pk)})
    assert elsewhere.headers.get("X-Llmsite-Cache") != "hit-verified"

    await Collection.objects.filter(pk=handbook.pk).aupdate(visibility="private")
    assert (
        await post(bob, "/api/query", {"question": QUESTION, "collection": str(handbook.pk)})
    ).status_code == 404
    await hit_writer.flush()
    assert await Generation.objects.filter(collection=handbook.pk, cache="verified").acount() == 2


async def test_what_its_author_asked_one_collection_is_told_there_alone(alice, handbook, other):
    await verified(alice, "without documents")
    await verified(alice, "of the handbook", collection=handbook)
    assert (await ask(alice, collection=str(handbook.pk)))["text"] == "of the handbook"
    await sync_to_async(verify)(await newest_answer(), "my own of the handbook", user=alice)

    assert (await ask(alice, collection=str(handbook.pk)))["text"] == "my own of the handbook"
    assert (await ask(alice))["text"] == "without documents"
    elsewhere = await post(alice, "/api/predict", {"prompt": QUESTION, "collection": str(other.pk)})
    assert elsewhere.headers.get("X-Llmsite-Cache") != "hit-verified"


# --- What is another question all the same ------------------------------------------------------------


async def test_a_fresh_answer_is_a_models(alice):
    await verified(alice)
    assert (await ask(alice, use_cache=False))["cache"] is None
    answer = await post(alice, "/api/predict", {"prompt": QUESTION}, **{"Cache-Control": "no-cache"})
    assert answer["X-Llmsite-Cache"] == "miss"


async def test_answering_again_asks_the_model(alice):
    await verified(alice)
    first = await ask(alice)
    await hit_writer.flush()
    path = f"/api/conversations/{first['conversation']}/messages"
    again = await post(alice, path, {"regenerate": first["message"]})
    assert again.status_code == 202, again.content
    rows = Generation.objects.filter(pk=again.json()["message"]["generation"]["id"])
    ended = await until(rows.filter(status="finished").first)
    assert ended.cache == ""
    assert told_by_model() == 2


async def test_tools_a_form_a_system_prompt_and_older_turns_make_it_another_one(alice):
    await verified(alice)
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    cache = [
        (await chat(alice, [("user", QUESTION)], tools=[tool]))["llmsite"]["cache"],
        (await chat(alice, [("user", QUESTION)], response_format={"type": "json_object"}))["llmsite"][
            "cache"
        ],
        (await chat(alice, [("system", "Be a pirate."), ("user", QUESTION)]))["llmsite"]["cache"],
        (await chat(alice, [("user", "Hi"), ("assistant", "Hi!"), ("user", QUESTION)]))["llmsite"]["cache"],
        (await ask(alice, system="Be an owl."))["cache"],
    ]
    assert cache == [None] * 5


async def test_what_was_verified_with_a_system_prompt_or_older_turns_needs_the_same_ones(alice):
    before = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hi!")]
    await chat(alice, [*before, ("user", QUESTION)])
    await sync_to_async(verify)(await newest_answer(), ANSWER, user=alice)

    assert (await chat(alice, [*before, ("user", QUESTION.upper())]))["llmsite"]["cache"] == "verified"
    assert (await ask(alice))["cache"] is None
    assert (await chat(alice, [*before[1:], ("user", QUESTION)]))["llmsite"]["cache"] is None


async def test_the_conversation_goes_on_as_any_other(alice):
    await verified(alice)
    first = await ask(alice)
    next_one = await ask(alice, "And by whom?", conversation=first["conversation"])
    assert next_one["cache"] is None
    assert [turn.content for turn in scripted.calls[-1].request.messages] == [
        QUESTION,
        ANSWER,
        "And by whom?",
    ]
    again = await ask(alice, conversation=first["conversation"])
    assert again["cache"] is None


def test_no_digest_where_nothing_can_be_asked_again():
    question = ChatMessage("user", QUESTION)
    call = ChatMessage("assistant", "", (ToolCall("1", "look", "{}"),))
    assert digest_of([question]) is not None
    assert digest_of([]) is None
    assert digest_of([ChatMessage("user", " \n")]) is None
    assert digest_of([question, ChatMessage("assistant", "Hi")]) is None
    assert digest_of([question, call, ChatMessage("tool", "42", tool_call_id="1"), question]) is None
    assert digest_of([ChatMessage("user", "x" * 100_001)]) is None
    # What stands where can never be confused.
    one = [ChatMessage("user", "a"), ChatMessage("assistant", "b"), question]
    other = [ChatMessage("user", "a b"), question]
    assert digest_of(one) != digest_of(other)


# --- Coming and going ---------------------------------------------------------------------------------


async def test_a_second_one_takes_the_place_of_the_first(alice):
    await verified(alice, "first")
    await verified(alice, "second")
    assert await VerifiedAnswer.objects.acount() == 1
    assert (await ask(alice))["text"] == "second"


@sync_to_async
def first_written(change, *args, **values):
    """The table that is written first."""
    with CaptureQueriesContext(connection) as queries:
        change(*args, **values)
    written = [
        sql for query in queries if not (sql := query["sql"]).startswith(("SELECT", "SAVEPOINT", "BEGIN"))
    ]
    return written[0].replace("INSERT INTO", "UPDATE").split('"')[1]


async def test_whoever_changes_several_waits_for_nobody_who_waits_for_them(alice):
    row = await verified(alice)
    source = uuid4()
    message = await newest_answer()
    # The counter, on which all wait, before what several may want to change.
    assert await first_written(verify, message, "new", user=alice, source=source) == "inference_version"
    assert await first_written(unverify, source) == "inference_version"
    assert not await VerifiedAnswer.objects.filter(pk=row.pk).aexists()
    assert await sync_to_async(unverify)(source) == 0


async def test_once_taken_back_the_model_answers_again(alice):
    row = await verified(alice)
    row.source = row.pk
    await row.asave()
    assert (await ask(alice))["cache"] == "verified"
    assert await sync_to_async(unverify)(row.pk) == 1
    assert (await ask(alice))["cache"] != "verified"
    # Of a question that is ready still.
    await verified(alice)
    assert (await ask(alice))["cache"] == "verified"


async def test_one_that_was_taken_back_in_another_process_a_moment_ago_is_not_told(alice, monkeypatch):
    row = await verified(alice)
    await ask(alice)
    monkeypatch.setattr("inference.catalogue.REFRESH_SECONDS", 1000)
    monkeypatch.setattr("inference.catalogue.MOST_SECONDS", 1000)
    await ask(alice)
    # As another process does it: nothing tells this one.
    rows = VerifiedAnswer.objects.filter(pk=row.pk)
    await sync_to_async(rows._raw_delete)(rows.db)
    assert (await ask(alice))["cache"] == "l1"


async def test_every_way_to_change_them_is_noticed(alice):
    assert (await ask(alice))["cache"] is None
    digest = digest_of([ChatMessage("user", QUESTION)])
    await VerifiedAnswer.objects.abulk_create(
        [VerifiedAnswer(digest=digest, question=QUESTION, answer=ANSWER, user=alice)]
    )
    assert (await ask(alice))["cache"] == "verified"
    await VerifiedAnswer.objects.aupdate(digest="0" * 64)
    assert (await ask(alice))["cache"] == "l1"
    await VerifiedAnswer.objects.aupdate(digest=digest)
    assert (await ask(alice))["cache"] == "verified"
    await VerifiedAnswer.objects.all().adelete()
    assert (await ask(alice))["cache"] == "l1"


async def test_another_process_tells_it_within_a_second(alice, site):
    headers = {**await sync_to_async(bearer)(alice), "Content-Type": "application/json"}

    def over_there():
        request = Request(f"{site.url}/api/predict", json.dumps({"prompt": QUESTION}).encode(), headers)
        with urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    assert (await asyncio.to_thread(over_there))["cache"] is None
    await verified(alice)
    deadline = time.monotonic() + 20
    while (told := await asyncio.to_thread(over_there))["cache"] != "verified":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert told["text"] == ANSWER


async def test_the_chat_marks_it(alice):
    await verified(alice)
    first = await ask(alice)
    await hit_writer.flush()
    client = AsyncClient()
    await sync_to_async(sign_in_client)(client, alice)
    page = await client.get(f"/chat/{first['conversation']}/")
    assert 'data-cache="verified"' in page.content.decode()
    assert "Verified answer" in page.content.decode()
