"""Old answers of one who may not read the documents any more: there were passages, and nothing they said."""

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Team
from conftest import bearer, sign_in_client
from embeddings.models import Collection, Visibility
from inference.models import AnswerSource, Conversation
from inference.personal_data import export
from inference.tests.doors import events_of, post
from inference.tests.grounding.conftest import FOX

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION = "Where does the red fox live?"
TITLE = "Foxes of Zanzibar"


@pytest.fixture
def team(alice, bob):
    team = Team.objects.create(name="Research")
    team.members.add(alice, bob)
    return team


@pytest.fixture
def shared(alice, team, library):
    collection = Collection.objects.create(owner=alice, name="Foxes", visibility=Visibility.TEAM, team=team)
    library.add(collection, title=TITLE)
    return collection


async def ask(user, collection):
    """Ask in a new conversation; the path of its messages, and the id of the answer."""
    conversation = (await post(user, "/api/conversations", {})).json()["id"]
    path = f"/api/conversations/{conversation}/messages"
    body = {"prompt": QUESTION, "collection": str(collection.pk)}
    asked = (await post(user, path, body)).json()
    generation = asked["message"]["generation"]["id"]
    await retold(user, generation)
    return path, generation


async def retold(user, generation):
    """The sources of an answer, as its events tell them."""
    headers = await sync_to_async(bearer)(user)
    events = [event async for event in events_of(AsyncClient(), generation, **headers)]
    [sources] = [event["sources"] for event in events if event["type"] == "sources"]
    return sources


async def listed(user, path):
    headers = await sync_to_async(bearer)(user)
    page = (await AsyncClient().get(path, headers=headers)).json()
    return page["results"][-1]["generation"]["grounding"]["sources"]


async def told_everywhere(user, path, generation):
    """The sources of an answer, from every door that tells it again."""
    [conversation] = await sync_to_async(export)(user)
    return [
        await listed(user, path),
        await retold(user, generation),
        conversation["messages"][-1]["generation"]["sources"],
    ]


async def chat_page(user):
    client = Client()
    await sync_to_async(sign_in_client)(client, user)
    conversation = await Conversation.objects.aget(owner=user)
    return (await sync_to_async(client.get)(f"/chat/{conversation.pk}/")).content.decode()


def check(sources, *, withheld):
    title, text = ("", "") if withheld else (TITLE, FOX)
    assert [(one["n"], one["title"], one["text"], one["withheld"]) for one in sources] == [
        (1, title, text, withheld)
    ]


async def test_who_left_the_team_is_not_told_the_passages_again(alice, bob, team, shared):
    of_bob, of_alice = await ask(bob, shared), await ask(alice, shared)
    for sources in await told_everywhere(bob, *of_bob):
        check(sources, withheld=False)
    assert FOX in await chat_page(bob)

    await team.members.aremove(bob)

    for sources in await told_everywhere(bob, *of_bob):
        check(sources, withheld=True)
    page = await chat_page(bob)
    assert FOX not in page
    assert TITLE not in page
    assert "You may no longer read this document." in page
    assert "#passage" not in page
    # It is his right that has changed, and nobody else's.
    for sources in await told_everywhere(alice, *of_alice):
        check(sources, withheld=False)

    await team.members.aadd(bob)
    for sources in await told_everywhere(bob, *of_bob):
        check(sources, withheld=False)


@pytest.mark.parametrize(
    "change", [{"visibility": Visibility.PRIVATE}, {"visibility": Visibility.PRIVATE, "team": None}]
)
async def test_nor_are_others_once_it_is_private(change, bob, shared):
    path, generation = await ask(bob, shared)

    await Collection.objects.filter(pk=shared.pk).aupdate(**change)

    for sources in await told_everywhere(bob, path, generation):
        check(sources, withheld=True)


async def test_everybody_may_read_what_is_public(bob, shared):
    path, generation = await ask(bob, shared)

    await Collection.objects.filter(pk=shared.pk).aupdate(visibility=Visibility.PUBLIC, team=None)

    for sources in await told_everywhere(bob, path, generation):
        check(sources, withheld=False)


async def test_an_answer_that_comes_again_with_its_key(bob, team, shared):
    body, key = {"prompt": QUESTION, "collection": str(shared.pk)}, {"Idempotency-Key": "one"}
    first = (await post(bob, "/api/predict", body, **key)).json()

    await team.members.aremove(bob)

    again = (await post(bob, "/api/predict", body, **key)).json()
    assert again["text"] == first["text"]
    check(again["sources"], withheld=True)


async def test_what_is_deleted_is_not_withheld(bob, team, shared):
    path, _ = await ask(bob, shared)
    await sync_to_async(AnswerSource.objects.all().blank)()
    await team.members.aremove(bob)

    [source] = await listed(bob, path)

    assert (source["text"], source["withheld"]) == ("", False)


async def test_the_rights_are_read_with_the_rows(alice, bob, shared):
    """However many answers there are, a page of them asks the same queries."""
    path, _ = await ask(bob, shared)
    headers = await sync_to_async(bearer)(bob)

    def queries():
        client = Client(headers=headers)
        with CaptureQueriesContext(connection) as asked:
            assert client.get(path).status_code == 200
        return len(asked)

    await sync_to_async(queries)()  # What is asked once a process.
    one = await sync_to_async(queries)()
    for _ in range(3):
        body = {"prompt": QUESTION, "collection": str(shared.pk)}
        asked = (await post(bob, path, body)).json()
        await retold(bob, asked["message"]["generation"]["id"])

    assert await AnswerSource.objects.acount() == 4
    assert await sync_to_async(queries)() == one
