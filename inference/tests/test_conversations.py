"""Conversations and their messages over REST and in the page: branches, windows, and whose they are."""

import asyncio
import time

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client

from conftest import bearer, sign_in_client
from inference import admission, generations
from inference.ask import Ask
from inference.models import ChatModelConfig, Conversation, Generation, Message
from inference.pipeline import complete
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import post
from inference.tests.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]


async def ask(user, conversation, **body):
    answer = await post(user, f"/api/conversations/{conversation}/messages", body)
    assert answer.status_code == 202, answer.content
    asked = answer.json()
    generation = asked["message"]["generation"]["id"]
    await until(lambda: Generation.objects.filter(pk=generation, status="finished").exists())
    return asked


async def new_conversation(user):
    return (await post(user, "/api/conversations", {})).json()["id"]


def sent():
    """What went upstream last, role by role."""
    return [(message.role, message.content) for message in scripted.calls[-1].request.messages]


async def test_the_turns_before_go_upstream_and_the_first_gives_the_title(alice, models):
    scripted.play(Script(pieces=("Hello!",)), Script(pieces=("Fine.",)))
    conversation = await new_conversation(alice)

    await ask(alice, conversation, prompt="Hi there\nsecond line")
    asked = await ask(alice, conversation, prompt="How are you?")

    assert sent() == [("user", "Hi there\nsecond line"), ("assistant", "Hello!"), ("user", "How are you?")]
    assert asked["conversation"]["title"] == "Hi there"


async def test_regenerating_and_editing_make_branches(alice, models):
    scripted.play(*(Script(pieces=(text,)) for text in ("one", "two", "three")))
    conversation = await new_conversation(alice)
    first = await ask(alice, conversation, prompt="Say something")

    again = await ask(alice, conversation, regenerate=first["message"]["id"])
    assert sent() == [("user", "Say something")]
    assert again["user_message"] is None
    assert again["message"]["parent"] == first["user_message"]["id"]

    await ask(alice, conversation, prompt="Say more", parent=first["message"]["id"])
    assert sent() == [("user", "Say something"), ("assistant", "one"), ("user", "Say more")]

    edited = await ask(alice, conversation, prompt="Say nothing", parent=None)
    assert sent() == [("user", "Say nothing")]
    assert edited["user_message"]["parent"] is None


@pytest.mark.parametrize("body", [{}, {"prompt": "x", "regenerate": "0" * 32}, {"regenerate": "nonsense"}])
async def test_a_message_is_either_a_question_or_another_answer(body, alice, models):
    answer = await post(alice, f"/api/conversations/{await new_conversation(alice)}/messages", body)

    assert answer.status_code == 400
    assert not scripted.calls


async def test_a_parent_of_another_conversation_is_missing(alice, models):
    theirs, mine = await new_conversation(alice), await new_conversation(alice)
    asked = await ask(alice, theirs, prompt="Hi")

    for body in ({"prompt": "x", "parent": asked["message"]["id"]}, {"regenerate": asked["message"]["id"]}):
        assert (await post(alice, f"/api/conversations/{mine}/messages", body)).status_code == 404
    wrong_role = {"prompt": "x", "parent": asked["user_message"]["id"]}
    assert (await post(alice, f"/api/conversations/{theirs}/messages", wrong_role)).status_code == 400


async def test_a_long_conversation_is_trimmed_and_says_so(alice, models):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(
        context_window=60, max_tokens=10, system_prompt="Be kind"
    )
    conversation = await new_conversation(alice)
    for number in range(6):
        asked = await ask(alice, conversation, prompt=f"Question {number} " + "word " * 10)

    roles = [role for role, _ in sent()]
    row = await Generation.objects.aget(pk=asked["message"]["generation"]["id"])
    assert row.context_trimmed
    assert sent()[0] == ("system", "Be kind")
    assert sent()[-1][1].startswith("Question 5")
    assert roles == ["system", "user", *["assistant", "user"] * ((len(roles) - 2) // 2)]
    assert len(roles) < 12


async def test_one_question_over_the_window_is_refused_before_anything_is_stored(alice, models):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(context_window=60, max_tokens=10)

    answer = await post(alice, "/api/predict", {"prompt": "word " * 99 + "word"})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "108" in error["message"]
    assert "60" in error["message"]
    assert not await Message.objects.aexists()
    assert not scripted.calls


async def test_parameters_a_model_does_not_take_are_dropped_and_named(alice, models, monkeypatch):
    monkeypatch.setattr(scripted.ScriptedProvider, "parameters", frozenset({"stop"}))

    answer = await post(alice, "/api/predict", {"prompt": "Hi", "temperature": 0.5, "seed": 1, "stop": "x"})

    assert answer.json()["dropped_parameters"] == ["seed", "temperature"]
    request = scripted.calls[-1].request
    assert (request.temperature, request.seed, request.stop) == (None, None, ("x",))


async def test_another_answer_of_a_greedy_model_is_drawn(alice, models, monkeypatch):
    monkeypatch.setattr(scripted.ScriptedProvider, "is_greedy", True)
    conversation = await new_conversation(alice)
    first = await ask(alice, conversation, prompt="Hi")
    assert scripted.calls[-1].request.temperature is None

    await ask(alice, conversation, regenerate=first["message"]["id"])
    assert scripted.calls[-1].request.temperature > 0

    await ask(alice, conversation, regenerate=first["message"]["id"], temperature=0.1)
    assert scripted.calls[-1].request.temperature == 0.1


async def test_a_conversation_whose_model_has_gone_goes_on_with_the_default(alice, models):
    conversation = await new_conversation(alice)
    await ask(alice, conversation, prompt="Hi", model="echo")
    await ChatModelConfig.objects.filter(alias="echo").aupdate(is_active=False)

    asked = await ask(alice, conversation, prompt="Still there?")

    assert asked["message"]["generation"]["model"] == "scripted"


async def test_a_question_whose_asker_leaves_at_once_is_answered_all_the_same(alice, models, monkeypatch):
    store = admission._store

    def slow_store(*args):
        time.sleep(0.2)
        return store(*args)

    monkeypatch.setattr(admission, "_store", slow_store)
    asking = asyncio.ensure_future(generations.start(Ask(user=alice, door="test", prompt="Hi")))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    row = await until(lambda: Generation.objects.exclude(status__in=["queued", "streaming"]).first())
    assert row.status == "finished"


async def test_a_plain_call_whose_caller_leaves_at_once_is_stopped(alice, models, monkeypatch):
    store = admission._store

    def slow_store(*args):
        time.sleep(0.2)
        return store(*args)

    monkeypatch.setattr(admission, "_store", slow_store)
    asking = asyncio.ensure_future(complete(Ask(user=alice, door="test", prompt="Hi")))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    row = await until(lambda: Generation.objects.exclude(status__in=["queued", "streaming"]).first())
    assert (row.status, row.input_tokens, row.usage_estimated) == ("stopped", 0, False)
    assert not scripted.calls


async def test_one_off_questions_are_kept_but_not_listed(alice, models):
    await post(alice, "/api/predict", {"prompt": "Hi"})
    listed = await new_conversation(alice)

    answer = await AsyncClient().get("/api/conversations", headers=await sync_to_async(bearer)(alice))

    assert [row["id"] for row in answer.json()["results"]] == [listed]
    assert await Conversation.objects.acount() == 2


def test_a_stranger_sees_changes_and_deletes_nothing(alice, charlie, models):
    conversation = Conversation.objects.create(owner=alice, title="Private")
    message = Message.objects.create(conversation=conversation, role="user", content="A secret")
    client = Client(headers=bearer(charlie))
    path = f"/api/conversations/{conversation.pk}"

    answers = [
        client.get(path),
        client.patch(path, {"title": "Mine"}, content_type="application/json"),
        client.delete(path),
        client.get(f"{path}/messages"),
        client.post(f"{path}/messages", {"prompt": "x"}, content_type="application/json"),
        client.post(
            "/api/predict",
            {"prompt": "x", "conversation": str(conversation.pk)},
            content_type="application/json",
        ),
    ]

    assert [answer.status_code for answer in answers] == [404] * 6
    assert all("secret" not in answer.content.decode().lower() for answer in answers)
    sign_in_client(client := Client(), charlie)
    pages = [client.get(f"/chat/{conversation.pk}/"), client.post(f"/chat/{conversation.pk}/delete/")]
    assert [page.status_code for page in pages] == [404, 404]
    conversation.refresh_from_db()
    assert conversation.title == "Private"
    assert Message.objects.get() == message
    assert not scripted.calls


def test_renaming_and_deleting(alice, models):
    conversation = Conversation.objects.create(owner=alice)
    client = Client(headers=bearer(alice))
    path = f"/api/conversations/{conversation.pk}"

    assert client.patch(path, {"title": "Paris"}, content_type="application/json").json()["title"] == "Paris"
    too_long = client.patch(path, {"title": "x" * 81}, content_type="application/json")
    assert (too_long.status_code, too_long.json()["error"]["field"]) == (400, "title")
    blank = client.patch(path, {"title": "  "}, content_type="application/json")
    assert (blank.status_code, blank.json()["error"]["field"]) == (400, "title")
    unknown = client.patch(path, {"owner": 3}, content_type="application/json")
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (400, "owner")
    assert client.delete(path).status_code == 204
    assert not Conversation.objects.exists()


def test_lists_are_paged_and_cost_the_same_for_few_and_many(
    alice, models, django_assert_num_queries, monkeypatch
):
    headers = bearer(alice)
    monkeypatch.setattr("accounts.recent.KEEP_SECONDS", 600)
    Client(headers=headers).get("/api/models")

    def titles(url):
        # The page of conversations alone: the key was checked a moment ago.
        with django_assert_num_queries(1):
            answer = Client(headers=headers).get(url).json()
        return [row["title"] for row in answer["results"]], answer["next"]

    Conversation.objects.bulk_create(Conversation(owner=alice, title=str(number)) for number in range(7))
    seen, url = titles("/api/conversations?limit=3")
    while url:
        more, url = titles(url)
        seen += more

    assert sorted(seen) == [str(number) for number in range(7)]


def test_the_page_costs_the_same_for_few_and_many(alice, models, django_assert_num_queries):
    client = Client()
    sign_in_client(client, alice)
    conversation = Conversation.objects.create(owner=alice, title="Long")
    parent = None
    for number in range(40):
        role = "assistant" if number % 2 else "user"
        parent = Message.objects.create(
            conversation=conversation, parent=parent, role=role, content=f"turn {number}"
        )
        if role == "assistant":
            Generation.objects.create(
                user=alice, message=parent, model_alias="echo", provider="echo", status="finished"
            )

    # The sign-in, the conversation, the models, the lists of conversations and of collections, the messages,
    # what they stand on, and what was said of them.
    with django_assert_num_queries(8):
        page = client.get(conversation.get_absolute_url()).content.decode()

    assert page.count('class="message"') == 41  # And the empty one that the script copies.
    assert "turn 39" in page
