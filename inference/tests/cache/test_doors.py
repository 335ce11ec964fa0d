"""The cache as those who ask see it: the same answer again at every door, marked, free, only their own."""

import asyncio
from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts.keys import create_key
from accounts.models import LedgerEntry
from accounts.models.ledger import Reservation, Spending
from conftest import bearer
from inference.ask import Ask
from inference.cache.levels import answer_cache, clear_cache
from inference.cache.stage import flights
from inference.events import Finished
from inference.hit_rows import write
from inference.hit_writer import hit_writer
from inference.hits import QuickHit
from inference.models import ChatModelConfig, Conversation, Generation, Message, ModelFallback, Status
from inference.pipeline import complete, find_answer
from inference.providers import reset_providers, scripted
from inference.providers.base import ChatMessage
from inference.providers.scripted import Script
from inference.question import prepare
from inference.tests.doors import DOORS, post, sse
from inference.tests.waiting import until
from llmsite.core.errors import ProviderFailure, UpstreamCut

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

PIECES = ("Paris", " is", " the", " capital", " of", " France", ". ¿Sí? 日本 🦊")
QUESTION = "What is the capital of France?"


async def ask(user, prompt=QUESTION, **values):
    answer = await post(user, "/api/predict", {"prompt": prompt, **values})
    return answer.json()


def calls():
    return len(scripted.calls)


@pytest.mark.flows
@pytest.mark.parametrize("door", DOORS)
async def test_a_repeated_first_question_is_answered_from_the_cache_at_every_door(door, alice):
    scripted.play(Script(pieces=PIECES))
    first = await DOORS[door](alice, QUESTION, "scripted")
    again = await DOORS[door](alice, QUESTION, "scripted")
    await hit_writer.flush()

    assert first == again == "".join(PIECES)
    assert calls() == 1
    made, told = [
        row async for row in Generation.objects.order_by("created_at").select_related("message__parent")
    ]
    assert (made.cache, told.cache) == ("", "l1")
    assert told.message.content == again
    assert told.message.parent.content == QUESTION
    for name in (
        "status",
        "finish_reason",
        "delta_lengths",
        "input_tokens",
        "output_tokens",
        "door",
        "parameters",
    ):
        assert getattr(told, name) == getattr(made, name), name
    assert told.cost_micro == 0
    assert told.ended_at is not None


async def test_it_is_marked_and_free(alice):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(input_price=100, output_price=100)
    first, again = await ask(alice), await ask(alice)

    assert (first["cache"], again["cache"]) == (None, "l1")
    assert first["cost"] != "0"
    assert again["cost"] == "0"
    assert first["usage"] == again["usage"]
    assert first["text"] == again["text"]
    assert len({first["id"], again["id"], first["message"], again["message"]}) == 4
    await hit_writer.flush()
    entries = [entry async for entry in LedgerEntry.objects.order_by("pk")]
    assert [entry.cost_micro > 0 for entry in entries] == [True, False]
    assert (entries[1].input_tokens, entries[1].output_tokens, entries[1].estimated) == (0, 0, False)
    assert not await Reservation.objects.aexists()
    spent = await Spending.objects.aget(holder=f"user:{alice.pseudonym}")
    assert (spent.spent_micro, spent.reserved_micro) == (entries[0].cost_micro, 0)


async def test_the_header_says_so(alice):
    answers = [await post(alice, "/api/predict", {"prompt": QUESTION}) for _ in range(2)]
    assert [answer["X-Llmsite-Cache"] for answer in answers] == ["miss", "hit-l1"]
    streams = [await post(alice, "/api/predict/stream", {"prompt": QUESTION}) for _ in range(2)]
    assert [answer["X-Llmsite-Cache"] for answer in streams] == ["hit-l1", "hit-l1"]
    for answer in streams:
        assert [event async for event in sse(answer)][-1]["cache"] == "l1"


async def test_it_replays_in_the_pieces_in_which_it_came(alice):
    scripted.play(Script(pieces=PIECES))
    streams = []
    for _ in range(2):
        answer = await post(alice, "/api/predict/stream", {"prompt": QUESTION})
        streams.append([event async for event in sse(answer)])

    texts = [[event["text"] for event in events if event["type"] == "delta"] for events in streams]
    assert texts[0] == texts[1] == list(PIECES)
    assert [event["type"] for event in streams[0]] == [event["type"] for event in streams[1]]
    assert streams[1][0]["cache"] == "l1"


async def test_a_budget_that_is_spent_still_bears_an_answer_that_is_there(alice):
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(input_price=100, output_price=100)
    first = await ask(alice)
    alice.monthly_budget_micro = 0
    await alice.asave()

    assert (await ask(alice))["text"] == first["text"]
    streamed = await post(alice, "/api/predict/stream", {"prompt": QUESTION})
    assert [event async for event in sse(streamed)][-1]["type"] == "finished"
    assert (await post(alice, "/api/predict", {"prompt": "Another one"})).status_code == 429


class TestWhoShares:
    async def test_nobody_sees_what_another_one_was_told(self, alice, bob):
        mine, theirs = await ask(alice), await ask(bob)
        assert theirs["cache"] is None
        assert calls() == 2
        assert mine["text"] == theirs["text"]

    async def test_unless_the_operator_lets_everybody_share(self, alice, bob):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(cache_scope="site")
        await ask(alice)
        assert (await ask(bob))["cache"] == "l1"
        assert (await ask(bob, system="Be brief."))["cache"] is None
        assert (await ask(alice, system="Be brief."))["cache"] is None

    async def test_but_not_what_is_true_for_one_of_them(self, alice, bob):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(cache_scope="site")
        assert [(await ask(user, "What is my name?"))["cache"] for user in (alice, alice, bob)] == [None] * 3

    async def test_and_where_nobody_may_each_answer_is_made(self, alice):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(cache_scope="off")
        assert [(await ask(alice))["cache"] for _ in range(2)] == [None, None]
        assert len(answer_cache.memory) == 0

    async def test_a_thousand_pairs_of_people_share_nothing_on_any_level(self, alice, bob, monkeypatch):
        keys = set()
        for number in range(1000):
            for user in (alice, bob):
                question = await _prepared(user, f"question {number}")
                keys.add(question.lookup.key)
        assert len(keys) == 2000


async def _prepared(user, prompt, **values):
    return await prepare(Ask(user=user, door="test", prompt=prompt, **values))


class TestWhatIsNotKept:
    @pytest.mark.parametrize(
        "script",
        [
            Script(pieces=("One", " two"), error=UpstreamCut(provider="scripted")),
            Script(pieces=(), error=ProviderFailure(provider="scripted")),
            Script(pieces=(" ", "\n")),
            Script(pieces=("I would rather not",), finish_reason="content_filter"),
            Script(pieces=("x" * 250_000,)),
        ],
        ids=["cut", "failed", "blank", "filtered", "too long"],
    )
    async def test_a_half_or_odd_answer(self, script, alice):
        scripted.play(script)
        await post(alice, "/api/predict", {"prompt": QUESTION})
        assert (await ask(alice))["cache"] is None
        assert calls() == 2

    async def test_an_empty_one_which_is_no_answer(self, alice):
        for _ in range(3):
            scripted.play(Script(pieces=()))
        answer = await post(alice, "/api/predict", {"prompt": QUESTION})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "provider_error")
        assert calls() == 3
        assert (await ask(alice))["cache"] is None

    async def test_one_that_was_stopped(self, alice):
        events = sse(await post(alice, "/api/predict/stream", {"prompt": QUESTION, "model": "endless"}))
        started = await anext(events)
        await post(alice, f"/api/generations/{started['id']}/stop", {})
        assert [event async for event in events][-1]["finish_reason"] == "cancelled"
        assert len(answer_cache.memory) == 0

    @pytest.mark.parametrize("prompt", ["What is the weather like now?", "¿Qué pasa hoy?", "the latest news"])
    async def test_one_of_the_moment(self, prompt, alice):
        assert [(await ask(alice, prompt))["cache"] for _ in range(2)] == [None, None]

    async def test_one_that_is_asked_for_anew(self, alice):
        await ask(alice)
        scripted.play(Script(pieces=("Fresh",)))
        fresh = await ask(alice, use_cache=False)
        assert (fresh["cache"], fresh["text"]) == (None, "Fresh")
        # What is newer is what is told from then on.
        assert (await ask(alice))["text"] == "Fresh"

    async def test_one_that_is_not_to_be_kept(self, alice):
        for _ in range(2):
            await complete(Ask(user=alice, door="test", prompt=QUESTION, use_cache=False, may_be_kept=False))
        assert (await ask(alice))["cache"] is None

    async def test_one_of_the_moment_that_is_asked_in_two_turns(self, alice):
        turns = (ChatMessage("user", "What is the time now?"), ChatMessage("assistant", "Here?"))
        for _ in range(2):
            answer = await complete(Ask(user=alice, door="test", prompt="Yes.", history=turns))
            assert answer.end.cache is None

    async def test_another_answer_to_the_same_question(self, alice):
        first = await ask(alice)
        await hit_writer.flush()
        answer = await post(
            alice, f"/api/conversations/{first['conversation']}/messages", {"regenerate": first["message"]}
        )
        await until(lambda: Generation.objects.get(pk=answer.json()["message"]["generation"]["id"]).ended_at)
        assert calls() == 2
        assert len(answer_cache.memory) == 1

    async def test_an_old_one(self, alice, settings):
        settings.CACHE_TTL = 0
        assert [(await ask(alice))["cache"] for _ in range(2)] == [None, None]


class TestWhatMakesAnotherQuestion:
    @pytest.mark.parametrize(
        "values",
        [
            {"temperature": 0.1},
            {"max_tokens": 7},
            {"seed": 1},
            {"stop": ["x"]},
            {"system": "Be brief."},
            {"model": "echo"},
            {"prompt": QUESTION + " "},
        ],
        ids=lambda values: next(iter(values)),
    )
    async def test_any_other_word_or_parameter(self, values, alice):
        await ask(alice)
        assert (await ask(alice, **values))["cache"] is None

    async def test_the_turns_before(self, alice):
        first = await ask(alice)
        second = await ask(alice, conversation=first["conversation"])
        assert second["cache"] is None

    @pytest.mark.parametrize("change", [{"revision": "2"}, {"system_prompt": "Rhyme."}, {"max_tokens": 9}])
    async def test_a_change_of_the_model(self, change, alice):
        await ask(alice)
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(**change)
        assert (await ask(alice))["cache"] is None

    async def test_another_server_behind_the_same_provider(self, alice, settings):
        lookups = []
        for url in ("http://one.example/v1", "http://two.example/v1"):
            settings.LOCAL_BASE_URL = url
            await ChatModelConfig.objects.filter(alias="echo").aupdate(provider="local")
            lookups.append((await _prepared(alice, QUESTION, model="echo")).lookup.key)
        assert lookups[0] != lookups[1]

    async def test_words_of_a_turn_beside_the_question(self, alice, settings):
        settings.SEMANTIC_CACHE = True
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(semantic_cache=True)
        assert (await _prepared(alice, QUESTION)).lookup.partition
        history = (ChatMessage("user", "Invoice of ACME: 10 euro"),)
        assert not (await _prepared(alice, "What is the total?", history=history)).lookup.partition


class TestSingleFlight:
    async def test_a_hundred_equal_questions_are_one_call(self, alice, settings):
        gate = Script(pieces=PIECES, delay=0.02)
        scripted.play(gate)
        answers = await asyncio.gather(
            *(complete(Ask(user=alice, door="test", prompt=QUESTION)) for _ in range(100))
        )

        assert calls() == 1
        assert {answer.text for answer in answers} == {"".join(PIECES)}
        assert sum(answer.end.cache is None for answer in answers) == 1
        await hit_writer.flush()
        assert await Generation.objects.filter(status=Status.FINISHED).acount() == 100
        assert await LedgerEntry.objects.filter(output_tokens=0).acount() == 99

    async def test_they_fail_together(self, alice, settings):
        settings.FIRST_TOKEN_TIMEOUT = 1
        reset_providers()
        scripted.play(Script(pieces=(), hang=True))
        asked = [
            asyncio.ensure_future(complete(Ask(user=alice, door="test", prompt=QUESTION))) for _ in range(5)
        ]
        await asyncio.wait(asked)

        assert all(isinstance(one.exception(), ProviderFailure) for one in asked)
        assert calls() == 1

    async def test_the_others_read_along_and_go_on_without_the_first(self, alice):
        first = sse(await post(alice, "/api/predict/stream", {"prompt": QUESTION, "model": "endless"}))
        started = await anext(first)
        other = sse(await post(alice, "/api/predict/stream", {"prompt": QUESTION, "model": "endless"}))
        events = [await anext(other) for _ in range(4)]

        assert [event["type"] for event in events] == ["started", "delta", "delta", "delta"]
        assert events[0]["cache"] == "l1"
        await post(alice, f"/api/generations/{started['id']}/stop", {})
        assert [event async for event in first][-1]["finish_reason"] == "cancelled"
        assert [(await anext(other))["type"] for _ in range(20)] == ["delta"] * 20
        assert [call.outcome for call in scripted.calls] == ["running"]

        # With the last one the call ends too.
        await post(alice, f"/api/generations/{events[0]['id']}/stop", {})
        assert [event async for event in other][-1]["finish_reason"] == "cancelled"
        assert [call.outcome for call in scripted.calls] == ["closed"]
        assert len(flights) == 0
        rows = {row.cache: row async for row in Generation.objects.all()}
        assert {row.status for row in rows.values()} == {Status.STOPPED}
        assert rows["l1"].cost_micro == 0

    async def test_who_reads_slowly_keeps_nobody_waiting(self, alice):
        scripted.play(Script(pieces=PIECES))
        slow = sse(await post(alice, "/api/predict/stream", {"prompt": QUESTION}))
        await anext(slow)
        quick = await complete(Ask(user=alice, door="test", prompt=QUESTION))

        assert quick.text == "".join(PIECES)
        # By now it is being told here, or it has come to its end and was found.
        assert quick.end.cache in ("l1", "l2")
        assert calls() == 1
        assert "".join([event["text"] async for event in slow if event["type"] == "delta"]) == quick.text

    async def test_who_is_stopped_while_waiting_has_cost_nothing(self, alice):
        await ChatModelConfig.objects.all().aupdate(input_price=100, output_price=100)
        scripted.play(Script(pieces=(), hang=True))
        first = asyncio.ensure_future(complete(Ask(user=alice, door="test", prompt=QUESTION)))
        await until(lambda: scripted.calls)
        second = asyncio.ensure_future(complete(Ask(user=alice, door="test", prompt=QUESTION)))
        await until(lambda: Generation.objects.count() == 2)
        second.cancel()
        await asyncio.wait([second])
        await until(lambda: LedgerEntry.objects.exists())
        assert (await LedgerEntry.objects.aget()).cost_micro == 0
        first.cancel()
        await asyncio.wait([first])

    async def test_a_key_that_may_not_ask_the_fallback_does_not_follow_one_that_may(self, alice):
        models = {row.alias: row async for row in ChatModelConfig.objects.all()}
        await ModelFallback.objects.acreate(model=models["unavailable"], fallback=models["slow"])
        limited, _ = await sync_to_async(create_key)(alice, "limited", allowed_models=["unavailable"])
        ask = Ask(user=alice, door="test", prompt=QUESTION, model="unavailable")
        first = asyncio.ensure_future(complete(ask))
        await until(lambda: any(call.pieces for call in scripted.calls))

        with pytest.raises(ProviderFailure):
            await complete(replace(ask, api_key=limited))
        assert (await first).started.model == "slow"

    async def test_different_people_do_not_wait_for_each_other(self, alice, bob):
        await asyncio.gather(
            *(complete(Ask(user=user, door="test", prompt=QUESTION)) for user in (alice, bob))
        )
        assert calls() == 2


class TestClearing:
    @pytest.fixture(autouse=True)
    def _no_other_process(self, monkeypatch):
        """Nobody has to be waited for: test_processes.py has two."""
        monkeypatch.setattr("inference.cache.levels.MOST_SECONDS", 0)

    async def test_nothing_from_before_is_told(self, alice, settings):
        await ask(alice)
        await clear_cache()
        assert (await ask(alice))["cache"] is None
        assert (await ask(alice))["cache"] == "l1"

    async def test_not_even_where_a_store_keeps_it(self, alice, monkeypatch):
        # Only here: what is left after the test has to be forgotten.
        with monkeypatch.context() as deaf:
            deaf.setattr(answer_cache.memory, "forget", lambda prefix="": 0)
            await ask(alice)
            await clear_cache()
            assert (await ask(alice))["cache"] is None

    async def test_an_answer_that_was_being_made_meanwhile_is_not_told_again(self, alice):
        scripted.play(Script(pieces=PIECES, delay=0.3))
        running = asyncio.ensure_future(complete(Ask(user=alice, door="test", prompt=QUESTION)))
        await until(lambda: scripted.calls)
        await clear_cache()
        assert isinstance((await running).end, Finished)
        assert (await ask(alice))["cache"] is None


class TestRowsOfHits:
    async def test_a_conversation_begun_by_a_hit_goes_on(self, alice):
        await ask(alice)
        hit = await ask(alice)
        await hit_writer.flush()
        follow_up = await ask(alice, "And of Spain?", conversation=hit["conversation"])
        assert follow_up["cache"] is None
        assert await Message.objects.filter(conversation=hit["conversation"]).acount() == 4

    async def test_it_goes_on_at_once_too(self, alice):
        await ask(alice)
        hit = await ask(alice)
        assert len(hit_writer) == 1
        follow_up = await post(alice, "/api/predict", {"prompt": "And?", "conversation": hit["conversation"]})
        assert follow_up.status_code == 200

    async def test_a_batch_that_was_half_written_is_completed(self, alice, monkeypatch):
        await ask(alice)
        question, hit = await find_answer(Ask(user=alice, door="test", prompt=QUESTION))
        quick = [QuickHit(question, hit) for _ in range(3)]
        await sync_to_async(write)(quick[:1])
        await sync_to_async(write)(quick)
        assert await Generation.objects.filter(cache="l1").acount() == 3

    async def test_that_of_a_key_that_is_gone_is_kept_without_it(self, alice):
        key, _ = await sync_to_async(create_key)(alice, "short-lived")
        await ask(alice)
        question, hit = await find_answer(Ask(user=alice, api_key=key, door="test", prompt=QUESTION))
        quick = QuickHit(question, hit)
        await key.adelete()
        await sync_to_async(write)([quick])
        assert (await Generation.objects.aget(pk=quick.generation_id)).api_key_id is None

    async def test_those_of_somebody_who_is_gone_are_left_out(self, alice, bob):
        for user in (alice, bob):
            await ask(user)
            await ask(user)
        await sync_to_async(Generation.objects.filter(user=alice).delete)()
        await sync_to_async(Conversation.objects.filter(owner=alice).delete)()
        await sync_to_async(alice.delete)()
        await hit_writer.flush()
        assert await Generation.objects.filter(cache="l1").acount() == 1

    async def test_many_are_written_together(self, alice, monkeypatch):
        await ask(alice)
        batches = []
        monkeypatch.setattr(
            "inference.hit_writer.write", lambda batch: (batches.append(len(batch)), write(batch))
        )
        question, hit = await find_answer(Ask(user=alice, door="test", prompt=QUESTION))
        for _ in range(50):
            await hit_writer.add(QuickHit(question, hit))
        await hit_writer.flush()
        assert batches == [50]
        assert await Generation.objects.filter(cache="l1").acount() == 50
        assert await Message.objects.filter(role="assistant").acount() == 51

    async def test_a_key_counts_the_calls_it_made(self, alice):
        headers = await sync_to_async(bearer)(alice)
        for _ in range(2):
            await AsyncClient().post(
                "/api/predict", {"prompt": QUESTION}, content_type="application/json", headers=headers
            )
        await hit_writer.flush()
        keys = [entry.api_key async for entry in LedgerEntry.objects.all()]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert keys[0]
