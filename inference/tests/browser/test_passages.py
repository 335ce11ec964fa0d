"""What stands below an answer from documents, and when things were, as a reader's browser shows them."""

from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.keys import create_key
from accounts.models import ApiKey, User
from embeddings.models import Collection
from inference.models import AnswerSource, Conversation, Generation, Message

pytestmark = pytest.mark.asyncio(loop_scope="session")

BEFORE = (
    "The town lives from fish. Its market is open on Mondays. There is a museum of nets near the church. "
)
LEANT_ON = "The yellow ferry sails every day at noon from Puerto Grajo. It carries forty people."
OTHER = "The church of the town is old."


def answered(user: User, *passages: str) -> Conversation:
    collection = Collection.objects.create(owner=user, name="Bay")
    talk = Conversation.objects.create(owner=user, title="Ferry")
    asked = Message.objects.create(conversation=talk, role="user", content="When does the ferry sail?")
    said = Message.objects.create(
        conversation=talk, role="assistant", parent=asked, content="The ferry sails at noon [1]. See [7]."
    )
    answer = Generation.objects.create(
        user=user,
        message=said,
        status="finished",
        model_alias="echo",
        provider="echo",
        door="page",
        grounding="passages",
        confidence=0.8,
        ended_at=timezone.now(),
    )
    for number, text in enumerate(passages, start=1):
        ids = {"document": uuid4(), "version": uuid4(), "collection": collection.pk}
        place = {"page": 1, "start": 0, "end": len(text), "score": 0.8}
        AnswerSource.objects.create(
            generation=answer, number=number, title="Guide.md", text=text, **ids, **place
        )
    return talk


async def test_a_passage_is_shown_from_the_sentence_that_the_answer_leans_on(visit, cookies):
    alice = await User.objects.aget(username="alice")
    talk = await sync_to_async(answered)(alice, BEFORE + LEANT_ON, OTHER)
    visitor = await visit(viewport={"width": 375, "height": 800})
    await visitor.open(f"/chat/{talk.pk}/")
    await visitor.answer_ends()

    shown = await visitor.answer.locator(".source-text").all_inner_texts()
    assert shown == [f"… {LEANT_ON}", OTHER]
    # All of that sentence is in sight.
    fits = "(one) => one.scrollHeight <= one.clientHeight + 1"
    assert await visitor.answer.locator(".source-text").first.evaluate(fits)
    # The mark that the model wrote leads to its passage; one without a passage is text.
    assert await visitor.answer.locator("a.citation").all_inner_texts() == ["1"]


@pytest.mark.parametrize(("language", "told"), [("en", "6 Mar 2026, 08:04"), ("es", "6 mar 2026, 08:04")])
async def test_moments_are_in_the_readers_zone_and_language(visit, cookies, language, told):
    alice = await User.objects.aget(username="alice")
    await sync_to_async(create_key)(alice, "mine")
    made = timezone.now().replace(year=2026, month=3, day=5, hour=23, minute=4)
    await ApiKey.objects.aupdate(created_at=made)
    visitor = await visit(timezone_id="Asia/Tokyo", locale=language)
    await visitor.open("/account/")

    time = visitor.page.locator("#keys time").first
    assert await time.inner_text() == told
    assert (await time.get_attribute("title")).endswith("23:04 UTC")
