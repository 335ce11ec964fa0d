"""Searching, from the question to the passages: who may see what, and what is told of it."""

import asyncio
import random
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts.models import Scope, Team
from conftest import bearer
from embeddings import search as search_module
from embeddings.indexes import host as host_module
from embeddings.models import Chunk, Collection, SearchIndex
from embeddings.search import search
from embeddings.tests.indexes.library import add_document, add_version, index_of, make_collection, put_chunks
from embeddings.tests.serving import serving
from llmsite.core.errors import EmbedderUnavailable, NotFound
from llmsite.testing.site import free_port

pytestmark = pytest.mark.django_db(transaction=True)

ORM = sync_to_async


def texts(found):
    return [passage.text for passage in found.passages]


def post(headers, body):
    return AsyncClient().post("/api/search", body, content_type="application/json", headers=headers)


@pytest.fixture
def books(alice):
    return make_collection(alice)


@pytest.mark.flows
async def test_a_question_finds_its_passages(model_process, alice_headers, books):
    document = await ORM(add_document)(
        books, "The cat sleeps on the roof.", "Rates were raised.", name="cat.pdf", is_paged=True
    )

    answer = await post(alice_headers, {"query": "Where does the cat sleep?", "collection": str(books.pk)})

    assert answer.status_code == 200
    body = answer.json()
    first = body["results"][0]
    assert (body["mode"], len(body["results"]), body["took_ms"] > 0) == ("hybrid", 2, True)
    assert first["text"] == "The cat sleeps on the roof."
    assert (first["title"], first["page"], first["start"], first["end"]) == ("cat.pdf", 1, 0, 27)
    assert (first["document"], first["collection"]) == (str(document.pk), str(books.pk))
    assert first["score"] >= body["results"][1]["score"]
    assert 0 < first["scores"]["lexical"] <= 1
    assert 0 <= first["scores"]["vector"] <= 1


async def test_without_pages_there_is_none(model_process, alice, books):
    await ORM(add_document)(books, "a cat")

    assert (await search(alice, "cat")).passages[0].page is None


@pytest.mark.parametrize(("mode", "scores"), [("vector", (True, False)), ("lexical", (False, True))])
async def test_one_kind_alone(model_process, alice, books, mode, scores):
    await ORM(add_document)(books, "a cat", "a dog")

    found = await search(alice, "cat", mode=mode)

    passage = found.passages[0]
    assert (passage.vector_score is not None, passage.lexical_score is not None) == scores
    assert (found.mode, len(found.passages)) == (mode, 2 if mode == "vector" else 1)


async def test_as_many_as_are_asked_for(model_process, alice, books):
    await ORM(add_document)(books, *(f"cat number {number}" for number in range(9)))

    assert [len((await search(alice, "cat", top_k=most)).passages) for most in (1, 5)] == [1, 5]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "x" * 4001}, "query"),
        ({"query": "a", "collection": "books"}, "collection"),
        ({"query": "a", "top_k": 0}, "top_k"),
        ({"query": "a", "top_k": 51}, "top_k"),
        ({"query": "a", "mode": "rrf"}, "mode"),
        ({"query": "a", "weight": 1}, "weight"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_name(alice_headers, body, field):
    answer = await post(alice_headers, body)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_it_takes_a_key_for_documents(model_process, alice):
    keys = [await ORM(bearer)(alice, scopes=[scope]) for scope in (Scope.CHAT, Scope.DOCUMENTS)]

    assert [(await post(key, {"query": "a"})).status_code for key in keys] == [403, 200]


async def test_a_foreign_collection_is_a_missing_one(model_process, charlie_headers, books):
    await ORM(add_document)(books, "a cat")
    for collection in (books.pk, uuid4()):
        answer = await post(charlie_headers, {"query": "cat", "collection": str(collection)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_one_foreign_among_several_refuses_all(model_process, alice, charlie, books):
    own = await ORM(make_collection)(charlie)

    with pytest.raises(NotFound):
        await search(charlie, "cat", collections=[own.pk, books.pk])


async def test_what_one_may_read_is_found(model_process, alice, bob, charlie, books):
    team = await ORM(Team.objects.create)(name="readers")
    await team.members.aadd(bob)
    private = books
    shared = await ORM(make_collection)(alice, "Shared", visibility="team", team=team)
    public = await ORM(make_collection)(alice, "Public", visibility="public")
    for collection, text in ((private, "private cat"), (shared, "shared cat"), (public, "public cat")):
        await ORM(add_document)(collection, text)

    found = {user.username: set(texts(await search(user, "cat"))) for user in (alice, bob, charlie)}

    assert found == {
        "alice": {"private cat", "shared cat", "public cat"},
        "bob": {"shared cat", "public cat"},
        "charlie": {"public cat"},
    }


async def test_lost_access_counts_at_once(model_process, alice, bob, books):
    await ORM(add_document)(books, "a cat")
    await Collection.objects.filter(pk=books.pk).aupdate(visibility="public")
    assert texts(await search(bob, "cat")) == ["a cat"]
    await Collection.objects.filter(pk=books.pk).aupdate(visibility="private")
    assert texts(await search(bob, "cat")) == []


async def test_access_that_is_lost_during_a_search_counts_too(model_process, alice, bob, books, monkeypatch):
    await ORM(add_document)(books, "a cat")
    find = search_module.client.find

    async def find_and_give_away(*args):
        found = await find(*args)
        await Collection.objects.filter(pk=books.pk).aupdate(owner=bob)
        return found

    monkeypatch.setattr(search_module.client, "find", find_and_give_away)
    assert texts(await search(alice, "cat")) == []


async def test_a_version_that_is_not_shown_yet_is_not_found(model_process, alice, books):
    document = await ORM(add_document)(books, "the cat of now")
    newer = await ORM(add_version)(document, "the cat to come")
    await ORM(put_chunks)(newer, "the cat to come", index=await ORM(index_of)(books))
    await Collection.objects.filter(pk=books.pk).aupdate(version=9)

    assert texts(await search(alice, "cat")) == ["the cat of now"]


async def test_a_deleted_document_is_not_found_though_the_index_has_it(model_process, alice, books):
    document = await ORM(add_document)(books, "a cat")
    assert texts(await search(alice, "cat")) == ["a cat"]
    # Nobody has told the index, and the collection's version stays.
    await type(document).objects.aupdate(deleting_at="2026-01-01T00:00Z")

    assert texts(await search(alice, "cat")) == []


async def test_without_a_model_process_it_says_when_to_come_back(settings, alice_headers, books):
    await ORM(add_document)(books, "a cat")
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"

    answer = await post(alice_headers, {"query": "cat"})

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


async def test_while_another_encoder_is_there_words_are_compared_alone(
    model_process, alice, alice_headers, books
):
    await ORM(add_document)(books, "a cat", "a dog")
    await SearchIndex.objects.aupdate(embedder="the one before")

    body = (await post(alice_headers, {"query": "cat"})).json()

    assert (body["mode"], [one["text"] for one in body["results"]]) == ("lexical", ["a cat"])
    with pytest.raises(EmbedderUnavailable):
        await search(alice, "cat", mode="vector")


async def test_while_the_encoder_fails_words_are_compared_alone(settings, alice, books):
    def load():
        raise MemoryError

    await ORM(add_document)(books, "a cat", "a dog")
    with serving(load) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        found = await search(alice, "cat")

    assert (found.mode, texts(found)) == ("lexical", ["a cat"])


async def test_a_search_is_one_call_and_two_looks_at_the_database(
    model_process, encoder, alice, books, django_assert_max_num_queries
):
    await ORM(add_document)(books, *(f"cat number {number}" for number in range(9)))
    await search(alice, "cat")
    encoder.batches.clear()

    @ORM
    def asked():
        from asgiref.sync import async_to_sync
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as queries:
            async_to_sync(search)(alice, "cat")
        return len(queries)

    assert await asked() == 3
    assert encoder.batches == [["cat"]]


# R8: the same text of two people, with a canary in each


async def test_nobody_ever_finds_what_another_one_wrote(model_process, alice, bob, monkeypatch):
    seen = []
    real = host_module.find

    def spy(vectors, words, question, *rest):
        seen.append(([one._index if hasattr(one, "_index") else one for one in vectors], list(words)))
        return real(vectors, words, question, *rest)

    monkeypatch.setattr(host_module, "find", spy)
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "a",
        "lazy",
        "dog",
        "and",
        "sleeps",
        "under",
        "some",
        "old",
        "tree",
    ]
    of = {}
    for user, canary in ((alice, "canaryalpha"), (bob, "canarybeta")):
        of[user.username] = await ORM(make_collection)(user)
        await ORM(add_document)(
            of[user.username], *(f"{' '.join(words[at:] + words[:at])} {canary}" for at in range(len(words)))
        )
    chosen = random.Random(8)
    questions = [" ".join(chosen.sample(words, 4)) for _ in range(490)]
    questions += ["canaryalpha", "canarybeta", "CanaryAlpha canarybeta"] * 3 + ["canaryalpha tree"]
    assert len(questions) == 500

    # Alice's index is open too, in the same process.
    assert (await search(alice, "canaryalpha", top_k=1)).passages
    seen.clear()

    found = []
    for at in range(0, 500, 20):
        found += await asyncio.gather(*(search(bob, one, top_k=20) for one in questions[at : at + 20]))

    passages = [passage for one in found for passage in one.passages]
    assert len(passages) > 5000
    assert all("canarybeta" in passage.text and "canaryalpha" not in passage.text for passage in passages)
    assert {passage.collection for passage in passages} == {of["bob"].pk}
    # The index that was asked is Bob's alone: nothing was found first and taken out afterwards.
    assert len(seen) == 500
    assert {len(words) for _, words in seen} == {1}


async def test_an_index_that_is_asked_is_that_of_the_collection(model_process, alice, bob, monkeypatch):
    asked = []
    real = host_module.Host.search

    def spy(host, wanted, question):
        hits = real(host, wanted, question)
        asked.append(({target.collection for target in wanted}, {hit.chunk for hit in hits}))
        return hits

    monkeypatch.setattr(host_module.Host, "search", spy)
    own, foreign = await ORM(make_collection)(bob), await ORM(make_collection)(alice)
    await ORM(add_document)(own, "a cat and a canary")
    await ORM(add_document)(foreign, "a cat and a canary")
    await search(alice, "cat canary")
    asked.clear()
    await search(bob, "cat canary")

    own_chunks = {pk async for pk in Chunk.objects.filter(index__collection=own).values_list("pk", flat=True)}
    assert asked == [({own.pk}, own_chunks)]
