"""Documents on the chat page, without its script: which may be asked, and what an answer stands on."""

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Team
from conftest import sign_in_client
from embeddings.models import Collection, Visibility
from embeddings.tests.pages.conftest import make_document
from inference.models import AnswerSource, Conversation, Generation, Message

pytestmark = pytest.mark.django_db


@pytest.fixture
def shelf(alice) -> Collection:
    return Collection.objects.create(owner=alice, name="Field notes")


@pytest.fixture
def conversation(alice) -> Conversation:
    return Conversation.objects.create(owner=alice, title="Foxes", model="echo")


def answer(conversation, shelf, *, grounding="passages", sources=(), **values) -> Generation:
    """A question with its answer, at the end of `conversation`."""
    last = conversation.messages.order_by("created_at", "id").last()
    question = Message.objects.create(conversation=conversation, role="user", content="Who?", parent=last)
    message = Message.objects.create(
        conversation=conversation, role="assistant", content="The fox [1].", parent=question
    )
    generation = Generation.objects.create(
        user=conversation.owner,
        message=message,
        status="finished",
        model_alias="echo",
        provider="echo",
        door="rest",
        collection=shelf.pk,
        grounding=grounding,
        confidence=0.9,
        **values,
    )
    for number, source in enumerate(sources, start=1):
        AnswerSource.objects.create(generation=generation, number=number, **source)
    return generation


def source_of(document, **values):
    ids = {
        "document": document.pk,
        "version": document.current_id,
        "collection": document.collection_id,
    }
    return {
        **ids,
        "page": 3,
        "start": 10,
        "end": 20,
        "text": "A <b>fox</b>.",
        "title": "Foxes",
        "score": 0.5,
        **values,
    }


def open_chat(user, path="/chat/", **query):
    client = Client()
    sign_in_client(client, user)
    page = client.get(path, query)
    assert page.status_code == 200
    return page


def text_of(page) -> str:
    return page.content.decode()


def test_offered_are_the_collections_that_one_may_read(alice, bob, models, shelf):
    team = Team.objects.create(name="Research")
    team.members.add(alice)
    for name, visibility in (("Theirs", "private"), ("Ours", "team"), ("Everybody’s", "public")):
        given = team if visibility == Visibility.TEAM else None
        Collection.objects.create(owner=bob, name=name, visibility=visibility, team=given)

    offered = [collection.name for collection in open_chat(alice).context["collections"]]

    assert sorted(offered) == ["Everybody’s", "Field notes", "Ours"]


def test_without_collections_nothing_is_offered(alice, models):
    assert 'id="collection"' not in text_of(open_chat(alice))


def test_a_link_from_the_documents_chooses_them(alice, models, shelf):
    assert f'<option value="{shelf.pk}" selected>' in text_of(open_chat(alice, collection=shelf.pk))
    assert f'<option value="{shelf.pk}" selected>' not in text_of(open_chat(alice, collection="nonsense"))


def test_a_conversation_goes_on_with_the_documents_of_its_last_answer(alice, models, shelf, conversation):
    answer(conversation, shelf)

    page = open_chat(alice, f"/chat/{conversation.pk}/")

    assert f'<option value="{shelf.pk}" selected>' in text_of(page)


@pytest.mark.django_db(transaction=True)
async def test_documents_that_one_may_not_read_are_asked_nothing(bob, models, shelf):
    client = AsyncClient()
    await sync_to_async(sign_in_client)(client, bob)

    refused = await client.post(
        "/chat/", {"prompt": "Secrets?", "model": "echo", "collection": str(shelf.pk)}
    )

    assert refused.status_code == 404
    assert not await Message.objects.aexists()


def test_the_sources_of_a_stored_answer_lead_to_their_passages(alice, models, shelf, conversation):
    document = make_document(shelf)
    answer(conversation, shelf, sources=[source_of(document), source_of(document, text="", title="")])

    text = text_of(open_chat(alice, f"/chat/{conversation.pk}/"))

    place = f"version={document.current_id}&amp;page=3&amp;start=10&amp;end=20#passage"
    assert f'href="/documents/{document.pk}/?{place}"' in text
    assert text.count(place) == 1, "a deleted document is no link"
    assert "A &lt;b&gt;fox&lt;/b&gt;." in text
    assert "This document has been deleted or replaced." in text


@pytest.mark.parametrize("grounding", ["extract", "nothing"])
def test_an_answer_without_a_model_names_none(alice, models, shelf, conversation, grounding):
    answer(conversation, shelf, grounding=grounding, requested_model="scripted")

    text = text_of(open_chat(alice, f"/chat/{conversation.pk}/"))

    assert f'data-grounding="{grounding}"' in text
    assert "in place of" not in text
    assert '<span class="message-facts"></span>' in text


def test_who_may_set_up_a_model_is_led_to_where(staff, alice, models, conversation):
    place = 'href="/admin/inference/chatmodelconfig/"'

    assert place in text_of(open_chat(staff))
    assert place not in text_of(open_chat(alice))
    assert "An administrator can set up one that does." in text_of(open_chat(alice))


def test_more_answers_ask_no_more_of_the_database(alice, models, shelf, conversation):
    document = make_document(shelf)

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            open_chat(alice, f"/chat/{conversation.pk}/")
        return len(found)

    answer(conversation, shelf, sources=[source_of(document)])
    queries()  # what is asked once a process
    one = queries()
    for _ in range(5):
        answer(conversation, shelf, sources=[source_of(document)] * 3)

    assert queries() == one
