"""What a deleted document leaves in answers: the mark that there was a passage, and nothing that it said."""

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import AsyncClient
from django.utils import timezone
from redis import Redis

from embeddings.deletion import _forgetters
from embeddings.models import Collection, Document
from inference.cache.key import OF_DOCUMENTS
from inference.cache.levels import answer_cache
from inference.grounding.forgetting import forget_documents
from inference.hit_writer import hit_writer
from inference.mirror import event_mirror
from inference.models import AnswerSource
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import events_of, post
from inference.tests.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

MARKER = "Zanzibar-4711"
TEXT = f"The red fox {MARKER} lives in the wood."
QUESTION = "Where does the red fox live?"


@pytest.fixture
def marked(alice, library):
    collection = Collection.objects.create(owner=alice, name="Foxes")
    return library.add(collection, TEXT, title=MARKER)


async def ask(user, document):
    answer = await post(
        user, "/api/predict/stream", {"prompt": QUESTION, "collection": str(document.collection_id)}
    )
    body = b"".join([chunk async for chunk in answer.streaming_content])
    await event_mirror.flush()
    await hit_writer.flush()
    assert MARKER.encode() in body


async def delete(document):
    """As embeddings.deletion does it."""
    await Document.objects.filter(pk=document.pk).aupdate(deleting_at=timezone.now())
    await Collection.objects.filter(pk=document.collection_id).aupdate(version=99)
    return await sync_to_async(forget_documents)([document.pk])


def in_redis():
    """Whether any value in Redis has the marker."""
    if not settings.REDIS_URL:
        return False
    with Redis.from_url(settings.REDIS_URL) as redis:
        for key in redis.scan_iter("*"):
            kind = redis.type(key)
            if kind == b"stream":
                found = any(MARKER.encode() in v for _, entry in redis.xrange(key) for v in entry.values())
            else:
                found = kind == b"string" and MARKER.encode() in (redis.get(key) or b"")
            if found:
                return True
    return False


def cached():
    """How many answers from documents are in Redis."""
    if not settings.REDIS_URL:
        return 0
    with Redis.from_url(settings.REDIS_URL) as redis:
        return sum(b"making:" not in key for key in redis.scan_iter(f"*{OF_DOCUMENTS}*"))


def test_deletion_calls_it():
    assert forget_documents in _forgetters


async def test_rows_events_and_cached_answers_lose_it(alice, marked):
    await ask(alice, marked)
    kept = 1 if settings.REDIS_URL else 0
    await until(lambda: cached() == kept)  # It is kept in the background.
    assert in_redis() == bool(kept)

    counts = await delete(marked)

    assert counts == {"passages": 1, "event_streams": kept, "cached_answers": kept}
    assert cached() == 0
    row = await AnswerSource.objects.aget()
    assert (row.document, row.number, row.title, row.text) == (marked.pk, 1, "", "")
    assert not in_redis()
    assert (await delete(marked))["passages"] == 0


async def test_others_keep_theirs(alice, marked, library):
    other = await sync_to_async(library.add)(marked.collection, TEXT, title="Other")
    await ask(alice, marked)

    await delete(marked)

    assert [(row.document, bool(row.text)) async for row in AnswerSource.objects.all()] == [
        (marked.pk, False),
        (other.pk, True),
    ]


async def test_the_answer_still_shows_that_there_was_a_passage(alice, marked):
    await ask(alice, marked)
    generation = (await AnswerSource.objects.aget()).generation_id
    await delete(marked)

    from conftest import bearer

    headers = await sync_to_async(bearer)(alice)
    events = [event async for event in events_of(AsyncClient(), str(generation), **headers)]

    [source] = next(event["sources"] for event in events if event["type"] == "sources")
    assert (source["n"], source["text"], source["title"]) == (1, "", "")


async def test_one_that_was_found_before_and_asked_after_leaves_nothing(alice, marked):
    """The document goes between the search and the rows; its answer is not kept either."""
    from inference.admission import admit
    from inference.ask import Ask, Grounding
    from inference.pipeline import answer, find_answer

    asked = Ask(
        user=alice,
        door="test",
        prompt=QUESTION,
        listed=False,
        grounding=Grounding(collection=marked.collection_id),
    )
    scripted.play(Script(pieces=(MARKER,)))
    question, _ = await find_answer(asked)
    await delete(marked)
    await answer(await admit(question), lambda event: None)
    await event_mirror.flush()

    assert (await AnswerSource.objects.aget()).text == ""
    lookup = question.lookup
    kept = answer_cache.memory.find(lookup.key)
    assert MARKER in kept.text
    await answer_cache._keep_further(lookup, kept)
    assert await answer_cache.shared.find(lookup.key) is None
    assert not in_redis()
