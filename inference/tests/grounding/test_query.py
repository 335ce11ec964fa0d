"""`POST /api/query`: what it tells, what it refuses, and whom a cached answer is told."""

import asyncio
from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async

from accounts.models import LedgerEntry, Scope, Team
from accounts.models.ledger import Reservation
from embeddings.models import Collection, Visibility
from inference import pipeline
from inference.admission import admit
from inference.ask import Ask, Grounding
from inference.cache.levels import answer_cache
from inference.hit_writer import hit_writer
from inference.models import AnswerSource, ChatModelConfig, Generation
from inference.pipeline import find_answer
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import post
from inference.tests.grounding.conftest import FOX

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION = "Where does the red fox live?"
NOT_THERE = "Who won the football match in Madrid yesterday?"


async def query(user, question=QUESTION, **values):
    return await post(user, "/api/query", {"question": question, **values})


async def answer(user, question=QUESTION, **values):
    response = await query(user, question, **values)
    assert response.status_code == 200, response.content
    return response.json()


def share(collection, *people):
    team = Team.objects.create(name="Team")
    team.members.set(people)
    collection.team, collection.visibility = team, Visibility.TEAM
    collection.save()


async def test_it_answers_from_the_passages_and_tells_them(alice, foxes, library):
    scripted.play(Script(pieces=("In the wood", " [1].")))

    told = await answer(alice, collection=str(foxes.pk))

    assert told["answer"] == "In the wood [1]."
    assert (told["answered"], told["extract"]) == (True, False)
    [source] = told["sources"]
    assert (source["n"], source["title"], source["page"], source["text"]) == (1, "Foxes", None, FOX)
    assert source["document"] == str(library.passages[0].document)
    assert told["model_used"] == "scripted"
    assert (told["cache_hit"], told["cache_level"]) == (False, None)
    assert 0.5 < told["confidence_score"] < 1
    row = await Generation.objects.aget()
    assert told["tokens_used"] == row.input_tokens + row.output_tokens > 0
    assert (row.grounding, row.confidence, row.collection) == (
        "passages",
        told["confidence_score"],
        foxes.pk,
    )
    assert [call.request.messages[-1].content.count(FOX) for call in scripted.calls] == [1]


async def test_without_a_collection_ones_own_and_those_of_teams_are_asked(alice, bob, foxes, library):
    hers = await Collection.objects.acreate(owner=alice, name="More")
    theirs = await Collection.objects.acreate(owner=bob, name="Theirs")
    await sync_to_async(share)(theirs, alice, bob)
    await Collection.objects.acreate(owner=bob, name="His")
    open_to_all = await Collection.objects.acreate(
        owner=bob, name="Everybody's", visibility=Visibility.PUBLIC
    )

    await answer(alice)
    await answer(alice, collection=str(open_to_all.pk))

    [(_, asked), (_, named)] = library.searches
    assert set(asked) == {foxes.pk, hers.pk, theirs.pk}
    assert named == [open_to_all.pk]


async def test_what_the_documents_do_not_say_no_model_is_asked(alice, foxes):
    told = await answer(alice, NOT_THERE, collection=str(foxes.pk))

    assert (told["answered"], told["sources"], told["model_used"], told["tokens_used"]) == (
        False,
        [],
        None,
        0,
    )
    assert told["answer"]
    assert told["confidence_score"] < 0.5
    assert not scripted.calls
    row = await Generation.objects.aget()
    assert (row.grounding, row.status, row.cost_micro, row.model_alias) == (
        "nothing",
        "finished",
        0,
        "documents",
    )


class TestWhileDocumentsAreTakenIn:
    async def test_nothing_found_so_far_is_no_answer(self, alice, foxes, library):
        library.is_complete, library.only_for = False, "what is not there yet"
        response = await query(alice, collection=str(foxes.pk))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "search_incomplete")
        assert int(response["Retry-After"]) > 0
        assert not await Generation.objects.aexists()

    @pytest.mark.parametrize("state", [{"is_complete": False}, {"mode": "lexical"}], ids=str)
    async def test_an_answer_from_what_is_there_is_not_kept(self, alice, foxes, library, state):
        for name, value in state.items():
            setattr(library, name, value)
        await answer(alice, collection=str(foxes.pk))
        library.is_complete, library.mode = True, "hybrid"
        assert (await answer(alice, collection=str(foxes.pk)))["cache_hit"] is False
        assert (await answer(alice, collection=str(foxes.pk)))["cache_hit"] is True


async def test_how_long_it_took_is_the_whole_time(alice, foxes, library, monkeypatch):
    real = library.search

    async def slow(*args, **values):
        await asyncio.sleep(0.05)
        return await real(*args, **values)

    monkeypatch.setattr("inference.grounding.stage.search", slow)
    await answer(alice, NOT_THERE, collection=str(foxes.pk))
    assert (await Generation.objects.aget()).latency_ms >= 50


async def test_a_model_is_given_what_fits_and_only_that_is_told(alice, foxes, library):
    for number in range(4):
        await sync_to_async(library.add)(foxes, f"{FOX} " * 10, title=f"More {number}")
    # A quarter of this, 300 words, holds the short passage and one of the long ones.
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(context_window=1200, max_tokens=100)

    told = await answer(alice, collection=str(foxes.pk))

    assert [source["title"] for source in told["sources"]] == ["Foxes", "More 0"]
    [call] = scripted.calls
    assert call.request.messages[-1].content.count("] from “") == 2


async def test_what_the_documents_answer_themselves_needs_no_budget(alice, foxes):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(input_price=1, output_price=10)
    alice.monthly_budget_micro = 100
    await alice.asave()

    assert (await query(alice, collection=str(foxes.pk))).status_code == 429
    assert not (await answer(alice, NOT_THERE, collection=str(foxes.pk)))["answered"]
    assert (await LedgerEntry.objects.aget()).cost_micro == 0
    assert not await Reservation.objects.aexists()


async def test_nobody_without_documents_gets_an_answer(bob, library):
    told = await answer(bob)

    assert (told["answered"], told["confidence_score"]) == (False, 0.0)
    assert not library.searches


async def test_it_says_so_in_the_language_of_the_question(alice, foxes):
    told = await answer(alice, "¿Quién ganó ayer el partido de fútbol en Madrid?", collection=str(foxes.pk))

    assert told["answer"] == "Los documentos no dicen nada sobre esto."


async def test_questions_in_a_language_the_model_does_not_list_are_answered_by_sentences(
    alice, foxes, library
):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(languages=["en"])
    spanish = "El zorro rojo vive en el bosque. De noche caza ratones."
    await sync_to_async(library.add)(foxes, spanish, title="Zorros")

    told = await answer(alice, "¿Dónde vive el zorro rojo en invierno?", collection=str(foxes.pk))

    assert (told["answered"], told["extract"], told["model_used"]) == (True, True, None)
    assert told["answer"].startswith("“El zorro rojo vive en el bosque.” [2]")
    assert [source["title"] for source in told["sources"]] == ["Foxes", "Zorros"]
    assert not scripted.calls
    row = await Generation.objects.aget()
    assert (row.grounding, row.requested_model, row.cost_micro) == ("extract", "scripted", 0)


async def test_the_caller_may_say_the_language(alice, foxes):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(languages=["es-MX"])

    by_words = await answer(alice, collection=str(foxes.pk))
    said = await answer(alice, collection=str(foxes.pk), language="es")

    assert (by_words["extract"], said["extract"]) == (True, False)


async def test_labels_are_kept_and_are_nobody(alice, bob, foxes):
    told = await answer(alice, collection=str(foxes.pk), user_id=bob.username, metadata={"page": "/help"})

    row = await Generation.objects.aget(pk=told["id"])
    assert row.labels == {"user_id": "bob", "metadata": {"page": "/help"}}
    assert row.user_id == alice.pk


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"question": ""}, "question"),
        ({"question": "x" * 501}, "question"),
        ({"question": 7}, "question"),
        ({}, "question"),
        ({"question": "Hello?", "collection": "Foxes"}, "collection"),
        ({"question": "Hello?", "language": "Spanish"}, "language"),
        ({"question": "Hello?", "detail": "long"}, "detail"),
        ({"question": "Hello?", "metadata": {"a": "x" * 5000}}, "metadata"),
        ({"question": "Hello?", "prompt": "Hello?"}, "prompt"),
    ],
)
async def test_it_names_the_field_that_is_wrong(alice, body, field):
    response = await post(alice, "/api/query", body)

    assert response.status_code == 400
    assert response.json()["error"]["field"].split(".")[0] == field


class TestRights:
    """A foreign collection is like a missing one, and nothing at all happens."""

    async def nothing_happened(self, library):
        assert not library.searches
        assert not scripted.calls
        assert not len(answer_cache.memory)
        assert not await Generation.objects.aexists()
        assert not await LedgerEntry.objects.aexists()
        assert not await Reservation.objects.aexists()

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/query", {"question": QUESTION}),
            ("/api/predict", {"prompt": QUESTION}),
            ("/api/predict/stream", {"prompt": QUESTION}),
            (
                "/v1/chat/completions",
                {"model": "scripted", "messages": [{"role": "user", "content": QUESTION}]},
            ),
            (
                "/v1/messages",
                {"model": "scripted", "max_tokens": 9, "messages": [{"role": "user", "content": QUESTION}]},
            ),
        ],
    )
    async def test_a_foreign_collection_is_missing_at_every_door(self, path, body, charlie, foxes, library):
        missing = "00000000-0000-4000-8000-000000000000"
        foreign, none = [
            await post(charlie, path, {**body, "collection": pk}, **{"X-Request-ID": "the-same-one"})
            for pk in (str(foxes.pk), missing)
        ]

        assert foreign.status_code == none.status_code == 404
        assert foreign.content == none.content
        await self.nothing_happened(library)

    async def test_a_key_that_does_not_reach_documents_is_refused(self, alice, foxes, library):
        from conftest import bearer

        headers = await sync_to_async(bearer)(alice, scopes=[Scope.CHAT])
        bodies = {"/api/query": {"question": QUESTION}, "/api/predict": {"prompt": QUESTION}}
        for path, body in bodies.items():
            response = await post(alice, path, {**body, "collection": str(foxes.pk)}, **headers)
            assert response.status_code == 403
        await self.nothing_happened(library)


class TestCache:
    """A cached answer is told while nothing has changed, to whom it was told before, and to nobody else."""

    async def test_the_same_question_again_is_told_with_its_sources(self, alice, foxes, library):
        first, again = [await answer(alice, collection=str(foxes.pk)) for _ in range(2)]

        assert (again["cache_hit"], again["cache_level"], again["tokens_used"]) == (True, "l1", 0)
        for name in ("answer", "sources", "confidence_score", "answered", "model_used"):
            assert again[name] == first[name], name
        assert (len(scripted.calls), len(library.searches)) == (1, 1)
        await hit_writer.flush()
        rows = AnswerSource.objects.filter(generation=again["id"])
        assert [row.text async for row in rows] == [FOX]

    async def test_not_after_the_collection_changed(self, alice, foxes, library):
        await answer(alice, collection=str(foxes.pk))
        await sync_to_async(library.add)(foxes, "The red fox lives in towns as well.", title="News")

        told = await answer(alice, collection=str(foxes.pk))

        assert not told["cache_hit"]
        assert len(told["sources"]) == 2

    async def test_not_where_another_one_may_be_read_by_now(self, alice, bob, foxes):
        await answer(alice)
        new = await Collection.objects.acreate(owner=bob, name="New")
        await sync_to_async(share)(new, alice, bob)

        assert not (await answer(alice))["cache_hit"]

    async def test_not_to_another_reader(self, alice, bob, foxes):
        await sync_to_async(share)(foxes, alice, bob)
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(cache_scope="site")
        await answer(alice, collection=str(foxes.pk))

        assert not (await answer(bob, collection=str(foxes.pk)))["cache_hit"]
        assert len(scripted.calls) == 2

    async def test_not_to_one_who_may_not_read_it_any_more(self, alice, bob, foxes):
        await sync_to_async(share)(foxes, alice, bob)
        await answer(bob, collection=str(foxes.pk))
        await Collection.objects.filter(pk=foxes.pk).aupdate(visibility=Visibility.PRIVATE)

        assert (await query(bob, collection=str(foxes.pk))).status_code == 404

    async def test_not_for_the_question_without_documents(self, alice, foxes):
        await answer(alice, collection=str(foxes.pk))

        plain = await post(alice, "/api/predict", {"prompt": QUESTION})

        assert plain.json()["cache"] is None
        assert plain.json()["sources"] == []

    async def test_not_in_another_language(self, alice, foxes):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(languages=["en"])
        await answer(alice, collection=str(foxes.pk))
        told = await answer(alice, collection=str(foxes.pk), language="es")
        assert (told["cache_hit"], told["extract"]) == (False, True)

    async def test_not_where_another_detail_or_none_of_it_is_wanted(self, alice, foxes):
        await answer(alice, collection=str(foxes.pk))

        assert not (await answer(alice, collection=str(foxes.pk), detail="full"))["cache_hit"]
        assert not (await answer(alice, collection=str(foxes.pk), use_cache=False))["cache_hit"]


class TestTogether:
    """Equal questions at the same time, of which one was given other passages: its index was newer."""

    @pytest.fixture
    def question(self, alice, foxes):
        return Ask(
            user=alice,
            door="test",
            prompt=QUESTION,
            listed=False,
            grounding=Grounding(collection=foxes.pk),
        )

    async def prepared(self, question, library, text):
        library.passages = [replace(library.passages[0], text=text)]
        found, _ = await find_answer(question)
        return await admit(found)

    async def told_sources(self, turn):
        events = []
        await pipeline.answer(turn, events.append)
        return [source["text"] for event in events if event.type == "sources" for source in event.sources]

    async def test_it_does_not_follow_the_other_answer(self, question, library):
        scripted.play(*[Script(pieces=("Here",), delay=0.05) for _ in range(2)])
        turns = [await self.prepared(question, library, text) for text in (FOX, f"{FOX} And here.")]

        told = await asyncio.gather(*map(self.told_sources, turns))

        assert told == [[FOX], [f"{FOX} And here."]]
        assert len(scripted.calls) == 2

    async def test_it_is_not_told_the_other_answer_either(self, question, library):
        later = await self.prepared(question, library, f"{FOX} And here.")
        await self.told_sources(await self.prepared(question, library, FOX))

        assert await self.told_sources(later) == [f"{FOX} And here."]
        assert len(scripted.calls) == 2

    async def test_with_the_same_passages_one_call_answers_both(self, question, library):
        scripted.play(Script(pieces=("Here",), delay=0.05))
        turns = [await self.prepared(question, library, FOX) for _ in range(2)]

        assert await asyncio.gather(*map(self.told_sources, turns)) == [[FOX], [FOX]]
        assert len(scripted.calls) == 1
