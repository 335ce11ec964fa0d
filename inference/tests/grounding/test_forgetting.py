"""What a deleted document leaves in answers: the mark that there was a passage, and nothing that it said."""

from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from conftest import bearer
from embeddings import deletion
from embeddings.deletion import _forgetters
from embeddings.models import Collection, Document, DocumentVersion, Visibility
from inference.admission import admit
from inference.ask import Ask, Grounding
from inference.cache.key import OF_DOCUMENTS
from inference.cache.levels import answer_cache
from inference.grounding.forgetting import forget_documents, instead_of_extract
from inference.hit_writer import hit_writer
from inference.mirror import event_mirror
from inference.models import AnswerSource, ChatModelConfig, Generation, Message
from inference.pipeline import answer, find_answer
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import events_of, post
from inference.tests.waiting import until
from llmsite.core.worker import TryLater

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

MARKER = "Zanzibar-4711"
TEXT = f"The red fox {MARKER} lives in the wood."
QUESTION = "Where does the red fox live?"


@pytest.fixture
def marked(alice, library):
    collection = Collection.objects.create(owner=alice, name="Foxes")
    return library.add(collection, TEXT, title=MARKER)


async def ask(user, document, question=QUESTION):
    answer = await post(
        user, "/api/predict/stream", {"prompt": question, "collection": str(document.collection_id)}
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

    assert counts == {"passages": 1, "extracts": 0, "event_streams": kept, "cached_answers": kept}
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

    headers = await sync_to_async(bearer)(alice)
    events = [event async for event in events_of(AsyncClient(), str(generation), **headers)]

    [source] = next(event["sources"] for event in events if event["type"] == "sources")
    assert (source["n"], source["text"], source["title"]) == (1, "", "")


def asked_by(user, document):
    return Ask(
        user=user,
        door="test",
        prompt=QUESTION,
        listed=False,
        grounding=Grounding(collection=document.collection_id),
    )


async def test_one_that_was_found_before_and_asked_after_leaves_nothing(alice, marked):
    """The document goes between the search and the rows; its answer is not kept either."""
    scripted.play(Script(pieces=(MARKER,)))
    question, _ = await find_answer(asked_by(alice, marked))
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


async def mark_collection(document):
    """As embeddings.deletion marks one: its documents have no mark of their own."""
    await sync_to_async(deletion._mark)(Collection.objects.filter(pk=document.collection_id))


async def remove_version(document):
    """As embeddings.ingestion does where a newer one is shown."""
    await DocumentVersion.objects.filter(document=document).adelete()


@pytest.mark.parametrize("goes", [mark_collection, remove_version])
async def test_nor_does_one_whose_collection_is_being_deleted_or_that_was_replaced(goes, alice, marked):
    question, _ = await find_answer(asked_by(alice, marked))

    await goes(marked)

    await answer(await admit(question), lambda event: None)
    assert (await AnswerSource.objects.aget()).text == ""


class TestReplacedVersions:
    """A new version is often there because something had to go out of the old one."""

    async def test_the_passages_of_the_old_one_go_and_those_of_the_new_one_stay(self, alice, marked, library):
        old = await marked.versions.aget()
        await ask(alice, marked)
        await until(lambda: cached() == (1 if settings.REDIS_URL else 0))
        new = await marked.versions.acreate(number=2, size=1)
        library.passages = [replace(library.passages[0], version=new.pk)]
        await Collection.objects.filter(pk=marked.collection_id).aupdate(version=99)
        await ask(alice, marked)

        await sync_to_async(deletion._forget)([marked.pk], [old.pk])

        told = {row.version: (row.title, row.text) async for row in AnswerSource.objects.all()}
        assert told == {old.pk: ("", ""), new.pk: (MARKER, TEXT)}
        assert cached() == 0


class TestExtracts:
    """An answer that is nothing but sentences of a document goes with it."""

    @pytest.fixture(autouse=True)
    def no_model_speaks_it(self, models):
        ChatModelConfig.objects.filter(alias="scripted").update(languages=["fi"])

    async def test_its_words_go_from_the_answers_of_everybody(self, alice, bob, marked):
        await Collection.objects.filter(pk=marked.collection_id).aupdate(visibility=Visibility.PUBLIC)
        for user in (alice, bob):
            await ask(user, marked)
        assert await Message.objects.filter(content__contains=MARKER).acount() == 2

        counts = await delete(marked)

        assert counts["extracts"] == 2
        assert not await Message.objects.filter(content__contains=MARKER).aexists()
        assert not in_redis()
        assert (await delete(marked))["extracts"] == 0

    async def test_the_answer_is_told_again_as_what_it_says_now(self, alice, marked):
        await ask(alice, marked)
        await delete(marked)
        generation = await Generation.objects.select_related("message").aget()
        headers = await sync_to_async(bearer)(alice)

        events = [event async for event in events_of(AsyncClient(), str(generation.pk), **headers)]

        text = "This answer quoted a document that has been deleted or replaced."
        assert [event["text"] for event in events if event["type"] == "delta"] == [text]
        assert generation.message.content == text

    async def test_it_is_in_the_language_of_the_question(self, alice, marked):
        await ask(alice, marked, "¿Dónde vive el zorro rojo, red fox?")
        await delete(marked)

        message = await Message.objects.aget(role="assistant")
        assert message.content == "Esta respuesta citaba un documento que se ha eliminado o sustituido."

    async def test_one_that_quotes_only_others_stays(self, alice, marked, library):
        """All passages are listed below an answer; it is made of some."""
        other = await sync_to_async(library.add)(
            marked.collection, "Bears hibernate.", title="Other", score=0.1
        )
        await ask(alice, marked)
        assert await AnswerSource.objects.acount() == 2
        await Message.objects.filter(role="assistant").aupdate(content=f"“{TEXT}” [1]")

        assert (await delete(other))["extracts"] == 0

        assert await Message.objects.filter(content__contains=MARKER).aexists()

    async def test_what_a_model_said_stays(self, alice, marked):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(languages=[])
        scripted.play(Script(pieces=("In Zanzibar", " [1].")))
        await ask(alice, marked)

        await delete(marked)

        assert await Message.objects.filter(content="In Zanzibar [1].").aexists()

    async def test_of_many_it_asks_no_more_of_the_database(self, alice, marked):
        def queries():
            with CaptureQueriesContext(connection) as asked:
                forget_documents([marked.pk])
            return len(asked)

        counts = []
        for answers in (1, 4):
            for _ in range(answers):
                await ask(alice, marked)
            counts.append(await sync_to_async(queries)())

        assert counts[0] == counts[1]
        assert not await Message.objects.filter(content__contains=MARKER).aexists()

    async def test_while_one_is_being_written_it_is_tried_again(self, alice, marked):
        """Its end would store the text over what stands in its place."""
        question, _ = await find_answer(asked_by(alice, marked))
        turn = await admit(question)
        with pytest.raises(TryLater):
            await delete(marked)

        await answer(turn, lambda event: None)

        assert (await delete(marked))["extracts"] == 1
        assert not await Message.objects.filter(content__contains=MARKER).aexists()

    async def test_one_that_was_found_before_and_asked_after_quotes_nothing(self, alice, marked):
        question, _ = await find_answer(asked_by(alice, marked))
        await delete(marked)

        await answer(await admit(question), lambda event: None)

        message = await Message.objects.aget(role="assistant")
        assert message.content == instead_of_extract(QUESTION)
