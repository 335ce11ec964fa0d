"""Budgets and the models of a key, at every door and over all web processes."""

import asyncio
import json
from contextlib import AsyncExitStack, ExitStack

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError
from django.utils import timezone

from accounts.keys import create_key
from accounts.ledger import remaining
from accounts.models import LedgerEntry, Reservation, Spending
from accounts.money import this_month
from conftest import bearer
from inference.models import ChatModelConfig, Conversation, Generation
from inference.providers import scripted
from inference.tests.doors import DOORS, connect, post, until_end
from inference.tests.mixed_calls import client_of, sites
from inference.tests.standin import Answer
from inference.tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

ENDLESS = Answer(pieces=("word ",) * 2000, gap=0.02)
SLOW = Answer(pieces=("word ",) * 2000, gap=1)
"""It is stopped before it has more tokens than were asked for, however busy the machine is."""


@pytest.fixture
def priced(models) -> None:
    ChatModelConfig.objects.update(input_price=1, output_price=10)


@sync_to_async
def give_budget(holder, micro):
    holder.monthly_budget_micro = micro
    holder.save()


async def spend(user, micro):
    """Use up a budget of so much."""
    await give_budget(user, micro)
    await Spending.objects.acreate(holder=f"user:{user.pseudonym}", month=this_month(), spent_micro=micro)


@pytest.mark.usefixtures("priced", "settled")
class TestDoors:
    @pytest.mark.parametrize("door", DOORS)
    async def test_an_exhausted_budget_closes_every_door(self, door, alice):
        await give_budget(alice, 100)

        with pytest.raises((AssertionError, CommandError)) as refused:
            await DOORS[door](alice, "Hello", "scripted")

        assert "budget" in str(refused.value)
        assert not scripted.calls
        assert not await Generation.objects.aexists()
        assert not await Reservation.objects.aexists()

    @pytest.mark.parametrize("path", ["/api/predict", "/api/predict/stream"])
    async def test_the_refusal_says_when_the_budget_starts_anew(self, path, alice):
        await spend(alice, 10**9)

        answer = await post(alice, path, {"prompt": "Hello"})

        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "budget_exhausted")
        now = timezone.now()
        starts = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        starts = starts.replace(year=now.year + now.month // 12, month=now.month % 12 + 1)
        assert abs(int(answer["Retry-After"]) - (starts - now).total_seconds()) < 5
        assert not await Conversation.objects.aexists()

    async def test_a_socket_is_told_the_same(self, alice):
        await spend(alice, 10**9)
        socket = await connect(alice)
        await socket.send_json_to({"type": "ask", "prompt": "Hello"})

        events = await until_end(socket)
        await socket.disconnect()

        assert [event["code"] for event in events] == ["budget_exhausted"]

    async def test_a_key_spends_its_own_budget_and_leaves_its_owner_the_rest(self, alice):
        headers = await sync_to_async(bearer)(alice, monthly_budget_micro=100)
        await give_budget(alice, 10**9)

        refused = await post(alice, "/api/predict", {"prompt": "Hello"}, **headers)
        answered = await post(alice, "/api/predict", {"prompt": "Hello"})

        assert (refused.status_code, answered.status_code) == (429, 200)

    async def test_a_call_of_a_key_is_booked_to_it(self, alice):
        key, text = await sync_to_async(create_key)(alice, "script")

        answer = await post(alice, "/api/predict", {"prompt": "Hello"}, Authorization=f"Bearer {text}")

        row = await Generation.objects.aget()
        assert (str(row.pk), row.api_key_id) == (answer.json()["id"], key.pk)
        assert (await LedgerEntry.objects.aget()).api_key == key.public_id
        assert (await sync_to_async(remaining)(key)).spent_micro == row.cost_micro > 0

    @pytest.mark.parametrize("model", ["echo", None])
    @pytest.mark.parametrize("path", ["/api/predict", "/api/predict/stream"])
    async def test_a_key_asks_only_the_models_it_may(self, path, model, alice):
        headers = await sync_to_async(bearer)(alice, allowed_models=["slow"])
        body = {"prompt": "Hello", "model": model} if model else {"prompt": "Hello"}

        answer = await post(alice, path, body, **headers)

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
        assert answer.json()["error"]["field"] == "model"
        assert not await Generation.objects.aexists()

    async def test_a_free_model_answers_whoever_has_spent_all(self, alice):
        await ChatModelConfig.objects.filter(alias="echo").aupdate(input_price=0, output_price=0)
        await give_budget(alice, 0)

        answer = await post(alice, "/api/predict", {"prompt": "Hello", "model": "echo"})

        assert answer.status_code == 200


# --- Over several processes ----------------------------------------------------------------------


BODY = {"prompt": "Go on", "model": "gpt", "max_tokens": 50}


async def begin(client):
    """The answer's head and perhaps more of it; it goes on."""
    return await client.send(client.build_request("POST", "/api/predict/stream", json=BODY), stream=True)


async def stop_all(client):
    for row in await sync_to_async(list)(Generation.objects.running()):
        await client.post(f"/api/generations/{row.pk}/stop", json={})
    await until(lambda: not Reservation.objects.exists())


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_budget_for_one_call_admits_one_of_twenty_over_four_processes(standin, vendors, alice):
    standin.choose = lambda body: SLOW
    headers = await sync_to_async(bearer)(alice)
    with ExitStack() as stack:
        webs = await sync_to_async(sites)(stack, standin, 4)
        async with AsyncExitStack() as opened:
            clients = [await opened.enter_async_context(client_of(web, headers)) for web in webs]
            first = await begin(clients[0])
            most = (await Reservation.objects.aget()).amount_micro
            await stop_all(clients[1])
            spent = (await sync_to_async(remaining)(alice)).spent_micro
            await give_budget(alice, spent + most)
            # A budget that has changed is known when the caller is looked up again.
            anew = await sync_to_async(bearer)(alice)
            for client in clients:
                client.headers.update(anew)

            answers = await asyncio.gather(*(begin(clients[n % 4]) for n in range(20)))
            refused = [answer for answer in answers if answer.status_code == 429]
            assert sorted(answer.status_code for answer in answers) == [200] + [429] * 19
            assert (await sync_to_async(remaining)(alice)).left_micro == 0
            for answer in refused:
                assert json.loads(await answer.aread())["error"]["code"] == "budget_reserved"
                assert int(answer.headers["Retry-After"]) > 0

            await stop_all(clients[1])
            for answer in (first, *answers):
                await answer.aclose()

    left = await sync_to_async(remaining)(alice)
    booked = sum([row.cost_micro async for row in LedgerEntry.objects.all()])
    assert spent < left.spent_micro == booked < spent + most
    assert left.reserved_micro == 0
    assert await LedgerEntry.objects.acount() == 2


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_killed_process_leaves_nothing_reserved(standin, vendors, alice):
    standin.choose = lambda body: ENDLESS
    headers = await sync_to_async(bearer)(alice)
    with ExitStack() as stack:
        first, second = await sync_to_async(sites)(stack, standin, 2)
        async with client_of(first, headers) as client:
            answer = await begin(client)
            await until(lambda: Generation.objects.exclude(delta_lengths=[]).exists())
            first.kill()
            await answer.aclose()
        assert await Reservation.objects.aexists()
        assert second.process.poll() is None

        await until(lambda: not Reservation.objects.exists(), seconds=60)

    entry, row = await LedgerEntry.objects.aget(), await Generation.objects.aget()
    assert (row.status, entry.estimated) == ("interrupted", True)
    assert entry.output_tokens > 0
    left = await sync_to_async(remaining)(alice)
    assert (left.spent_micro, left.reserved_micro) == (entry.cost_micro, 0)
