"""Sources at every door: the same ones, before the first piece, live and told again."""

import json
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.test import AsyncClient

from accounts.models import User
from conftest import bearer, sign_in_client
from embeddings.models import Collection
from inference.models import Generation
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import connect, events_of, post, sse, until_end
from inference.tests.grounding.conftest import FOX

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION = "Where does the red fox live?"
TURNS = {"model": "scripted", "messages": [{"role": "user", "content": QUESTION}]}


def check(sources):
    assert [(source["n"], source["title"], source["text"]) for source in sources] == [(1, "Foxes", FOX)]


def check_events(events):
    assert [event["type"] for event in events] == ["started", "sources", "delta", "delta", "finished"]
    assert [event["seq"] for event in events] == list(range(5))
    told = events[1]
    check(told["sources"])
    assert (told["answered"], told["extract"]) == (True, False)
    assert told["confidence"] > 0.5


@pytest.fixture(autouse=True)
def answer_of_the_model():
    scripted.play(Script(pieces=("In the wood", " [1].")))


async def retold(user, generation):
    headers = await sync_to_async(bearer)(user)
    return [event async for event in events_of(AsyncClient(), str(generation), **headers)]


async def test_predict(alice, foxes):
    told = (await post(alice, "/api/predict", {"prompt": QUESTION, "collection": str(foxes.pk)})).json()

    check(told["sources"])
    check_events(await retold(alice, told["id"]))


async def test_predict_once(alice, foxes):
    """With an idempotency key the answer is told from its row."""
    body = {"prompt": QUESTION, "collection": str(foxes.pk)}
    first, again = [
        (await post(alice, "/api/predict", body, **{"Idempotency-Key": "one"})).json() for _ in range(2)
    ]

    check(first["sources"])
    assert again == first
    assert len(scripted.calls) == 1


async def test_stream(alice, foxes):
    answer = await post(alice, "/api/predict/stream", {"prompt": QUESTION, "collection": str(foxes.pk)})
    events = [event async for event in sse(answer)]

    check_events(events)
    assert [event async for event in sse_again(alice, events[0]["id"])] == events


async def sse_again(user, generation):
    for event in await retold(user, generation):
        yield event


async def test_a_cached_answer_is_told_as_the_same_events(alice, foxes):
    body = {"prompt": QUESTION, "collection": str(foxes.pk)}
    streams = [await post(alice, "/api/predict/stream", body) for _ in range(2)]
    first, again = [[event async for event in sse(answer)] for answer in streams]

    check_events(again)
    assert again[1]["sources"] == first[1]["sources"]
    assert again[-1]["cache"] == "l1"


async def test_a_conversation(alice, foxes):
    conversation = (await post(alice, "/api/conversations", {})).json()["id"]
    path = f"/api/conversations/{conversation}/messages"
    asked = (await post(alice, path, {"prompt": QUESTION, "collection": str(foxes.pk)})).json()
    check_events(await retold(alice, asked["message"]["generation"]["id"]))

    headers = await sync_to_async(bearer)(alice)
    page = (await AsyncClient().get(path, headers=headers)).json()

    grounding = page["results"][-1]["generation"]["grounding"]
    check(grounding["sources"])
    assert (grounding["answered"], grounding["extract"]) == (True, False)

    scripted.play(Script(pieces=("Under", " trees [1].")))
    again = {"regenerate": asked["message"]["id"], "collection": str(foxes.pk)}
    asked = (await post(alice, path, again)).json()
    check_events(await retold(alice, asked["message"]["generation"]["id"]))


async def test_the_question_before_is_looked_for_too_where_the_words_alone_find_nothing(
    alice, foxes, library
):
    conversation = (await post(alice, "/api/conversations", {})).json()["id"]
    path = f"/api/conversations/{conversation}/messages"
    for prompt in (QUESTION, "And what about hedgehogs, then?"):
        asked = (await post(alice, path, {"prompt": prompt, "collection": str(foxes.pk)})).json()
        await retold(alice, asked["message"]["generation"]["id"])

    assert [words for words, _ in library.searches] == [
        QUESTION,
        "And what about hedgehogs, then?",
        f"{QUESTION}\nAnd what about hedgehogs, then?",
    ]


async def test_what_only_the_question_before_finds_is_no_answer_to_another_one(alice, foxes):
    conversation = (await post(alice, "/api/conversations", {})).json()["id"]
    path = f"/api/conversations/{conversation}/messages"
    for prompt in (QUESTION, "What is the capital of Mongolia?"):
        asked = (await post(alice, path, {"prompt": prompt, "collection": str(foxes.pk)})).json()
        told = await retold(alice, asked["message"]["generation"]["id"])

    assert next(event for event in told if event["type"] == "sources")["answered"] is False


async def test_a_chat_that_has_lost_its_documents_says_so(alice, foxes):
    conversation = (await post(alice, "/api/conversations", {})).json()["id"]
    body = {"prompt": QUESTION, "collection": str(foxes.pk)}
    asked = (await post(alice, f"/api/conversations/{conversation}/messages", body)).json()
    await retold(alice, asked["message"]["generation"]["id"])
    client = AsyncClient()
    await sync_to_async(sign_in_client)(client, alice)
    address = f"/chat/{conversation}/"
    assert "composer-note" not in (await client.get(address)).content.decode()

    await Collection.objects.filter(pk=foxes.pk).aupdate(owner=await User.objects.acreate(username="eve"))
    assert "composer-note" in (await client.get(address)).content.decode()


async def test_websocket(alice, foxes):
    socket = await connect(alice)
    await socket.send_json_to({"type": "ask", "prompt": QUESTION, "collection": str(foxes.pk)})
    events = await until_end(socket)
    await socket.disconnect()

    check_events(events)


async def test_openai(alice, foxes):
    answer = await post(alice, "/v1/chat/completions", {**TURNS, "collection": str(foxes.pk)})

    check(answer.json()["llmsite"]["sources"])
    assert answer.json()["llmsite"]["answered"] is True


async def test_openai_stream(alice, foxes):
    body = {**TURNS, "collection": str(foxes.pk), "stream": True}
    answer = await post(alice, "/v1/chat/completions", body)
    text = b"".join([chunk async for chunk in answer.streaming_content]).decode()
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]

    assert all(chunk["choices"] for chunk in chunks), "a chunk without choices breaks naive clients"
    [with_sources] = [chunk for chunk in chunks if "sources" in chunk.get("llmsite", {})]
    check(with_sources["llmsite"]["sources"])
    assert chunks.index(with_sources) == 1


async def test_anthropic(alice, foxes):
    answer = await post(alice, "/v1/messages", {**TURNS, "max_tokens": 50, "collection": str(foxes.pk)})

    check(answer.json()["llmsite"]["sources"])


async def test_anthropic_stream(alice, foxes):
    body = {**TURNS, "max_tokens": 50, "collection": str(foxes.pk), "stream": True}
    answer = await post(alice, "/v1/messages", body)
    text = b"".join([chunk async for chunk in answer.streaming_content]).decode()
    told = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]

    [end] = [event for event in told if event["type"] == "message_delta"]
    check(end["llmsite"]["sources"])


@pytest.mark.parametrize("name", ["Foxes", "the id"])
async def test_command(alice, foxes, name):
    out = StringIO()
    await sync_to_async(call_command, thread_sensitive=False)(
        "ask",
        QUESTION,
        collection="Foxes" if name == "Foxes" else str(foxes.pk),
        user="alice",
        json=True,
        stdout=out,
    )

    check(json.loads(out.getvalue())["sources"])
    assert (await Generation.objects.aget()).door == "command"


async def test_the_command_lists_the_sources_below_the_answer(alice, foxes):
    out = StringIO()
    await sync_to_async(call_command, thread_sensitive=False)(
        "ask", QUESTION, collection="Foxes", user="alice", stdout=out
    )

    assert out.getvalue().splitlines() == ["In the wood [1].", "[1] Foxes"]


async def test_the_command_names_a_collection_that_is_not_there(charlie, foxes):
    with pytest.raises(CommandError, match="charlie may read no collection named Foxes"):
        await sync_to_async(call_command, thread_sensitive=False)(
            "ask", QUESTION, collection="Foxes", user="charlie"
        )


async def test_a_question_that_comes_again_with_its_key_is_told_with_its_sources(alice, foxes):
    conversation = (await post(alice, "/api/conversations", {})).json()["id"]
    path, body = f"/api/conversations/{conversation}/messages", {"prompt": QUESTION}
    body["collection"] = str(foxes.pk)
    first = (await post(alice, path, body, **{"Idempotency-Key": "one"})).json()
    await retold(alice, first["message"]["generation"]["id"])

    again = (await post(alice, path, body, **{"Idempotency-Key": "one"})).json()

    check(again["message"]["generation"]["grounding"]["sources"])
    assert again["message"]["id"] == first["message"]["id"]
