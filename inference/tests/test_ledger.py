"""Every call is booked, with what the vendor reported or with a flag, and budgets hold over all processes."""

import json
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.models import Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.keys import create_key
from accounts.ledger import correct, remaining
from accounts.models import LedgerEntry, Reservation, Spending
from accounts.usage import usage_of
from conftest import bearer
from inference import generations
from inference.admission import admit
from inference.ask import Ask
from inference.live import live_answers
from inference.management.commands import correct_usage
from inference.models import ChatModelConfig, Conversation, Generation, Message
from inference.pipeline import complete
from inference.providers import reset_providers, scripted
from inference.providers.scripted import Script
from inference.question import prepare
from inference.sweeper import GRACE_SECONDS, SILENCE_SECONDS, Sweeper
from inference.tests.mixed_calls import KINDS, ask_all, client_of, kind_of, model_of, question_of, sites
from inference.tests.standin import Answer
from inference.tests.waiting import until
from llmsite.core.errors import ProviderFailure

pytestmark = pytest.mark.django_db(transaction=True)


def invoice(standin):
    """What the vendors bill, in millionths of the currency."""
    prices = {"/v1/chat/completions": (2, 8), "/v1/messages": (3, 15)}
    return sum(
        tokens * price
        for call in standin.calls
        for tokens, price in zip(call.billed, prices[call.path], strict=True)
    )


@pytest.fixture
def kinds(vendors):
    """Each kind of call with a model of its own at each vendor."""
    for vendor in ChatModelConfig.objects.all():
        for kind in KINDS:
            vendor.pk = None
            vendor.alias = vendor.provider_model = model_of(vendor.alias.split("-")[0], kind)
            vendor.save(force_insert=True)


def question_kind(number):
    return list(KINDS)[number % len(KINDS)]


@sync_to_async
def booked():
    """Of each question that a model was asked, the tokens booked and whether the vendor reported them."""
    rows = Generation.objects.filter(cache="").values_list("pk", "message__parent__content")
    entries = LedgerEntry.objects.values("call").annotate(
        tokens_in=Sum("input_tokens"), tokens_out=Sum("output_tokens")
    )
    final = set(LedgerEntry.objects.filter(estimated=False).values_list("call", flat=True))
    sums = {row["call"]: (row["tokens_in"], row["tokens_out"]) for row in entries}
    return {question: (call, sums[call], call in final) for call, question in rows}


@pytest.mark.parametrize(
    ("processes", "calls"),
    [
        pytest.param(1, 2 * len(KINDS), marks=pytest.mark.flows),
        pytest.param(4, 1000, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(300)
async def test_calls_of_all_kinds_add_up_to_the_invoice(processes, calls, standin, kinds, alice, bob):
    keys = {user: await sync_to_async(create_key)(user, "script") for user in (alice, bob)}
    headers = [{"Authorization": f"Bearer {text}"} for _, text in keys.values()]
    with ExitStack() as stack:
        webs = await sync_to_async(sites)(stack, standin, processes)
        async with AsyncExitStack() as opened:
            clients = [
                await opened.enter_async_context(client_of(web, given)) for web in webs for given in headers
            ]
            await ask_all(calls, clients=clients, standin=standin)
        await until(lambda: not Reservation.objects.exists(), seconds=60)
        await until(lambda: not Generation.objects.running().exists())
        # The rows of answers from the cache are written a moment behind them.
        twice = sum(question_kind(number) == "cached" for number in range(calls))
        await until(lambda: Generation.objects.exclude(cache="").count() == twice)

    cached = await Generation.objects.exclude(cache="").acount()
    assert await LedgerEntry.objects.acount() == calls + cached
    rows = await booked()
    assert len(rows) == calls
    # Tries that failed before a piece are calls to the vendor too; while a circuit is open there is none.
    billed = Counter()
    for call in standin.calls:
        billed.update({(question_of(call.body), side): tokens for side, tokens in enumerate(call.billed)})
    billed = {question: (billed[question, 0], billed[question, 1]) for question in rows}
    asked = {question_of(call.body) for call in standin.calls}
    assert {question: final for question, (_, _, final) in rows.items()} == {
        question: kind_of(question).is_reported or question not in asked for question in rows
    }
    reported = {question: tokens for question, (_, tokens, final) in rows.items() if final}
    assert reported == {question: billed[question] for question in reported}

    lines = "\n".join(
        json.dumps({"call": str(call), "input_tokens": tokens[0], "output_tokens": tokens[1]})
        for question, (call, _, _) in rows.items()
        for tokens in [billed[question]]
    )
    result = await sync_to_async(corrected)(lines)
    assert (result["corrected"], result["unchanged"]) == (calls - len(reported), len(reported))
    assert await sync_to_async(corrected)(lines) == {"corrected": 0, "unchanged": calls, "difference": "0"}

    usages = [await sync_to_async(usage_of)(user.pseudonym) for user in keys]
    assert sum(usage.total.cost_micro for usage in usages) == invoice(standin)
    assert (
        sum(usage.total.input_tokens for usage in usages),
        sum(usage.total.output_tokens for usage in usages),
    ) == standin.invoice()
    assert sum(usage.total.calls for usage in usages) == calls + cached
    assert not any(usage.total.has_estimates for usage in usages)
    for (user, (key, _)), usage in zip(keys.items(), usages, strict=True):
        for holder in (user, key):
            left = await sync_to_async(remaining)(holder)
            assert (left.spent_micro, left.reserved_micro) == (usage.total.cost_micro, 0)
    costs = await Generation.objects.aaggregate(total=Sum("cost_micro"))
    assert costs["total"] == invoice(standin)


def corrected(lines):
    out = StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdin", StringIO(lines))
        call_command("correct_usage", "-", json=True, stdout=out)
    return json.loads(out.getvalue())


# --- One call at a time --------------------------------------------------------------------------


@pytest.fixture
def priced(models) -> None:
    """The scripted models cost 1 for an input token and 10 for an output token."""
    ChatModelConfig.objects.update(input_price=Decimal(1), output_price=Decimal(10))


async def entry():
    """The one entry of the ledger; nothing is left reserved."""
    assert not await Reservation.objects.aexists()
    found = await LedgerEntry.objects.aget()
    spent = await Spending.objects.aaggregate(total=Sum("spent_micro", default=0))
    assert spent["total"] == found.cost_micro
    return found


def tokens_of(found):
    return found.input_tokens, found.output_tokens, found.estimated


async def running(user, **values):
    """An answer that has begun."""
    turn = await generations.start(Ask(user=user, door="test", prompt="Go on", **values))
    await until(lambda: any(call.pieces for call in scripted.calls))
    return turn


async def nothing_runs():
    await until(lambda: not live_answers)


@pytest.mark.usefixtures("settled", "priced")
class TestBooking:
    async def test_a_finished_answer_shows_what_the_ledger_has(self, alice):
        await complete(Ask(user=alice, door="test", prompt="one two three"))

        found, row = await entry(), await Generation.objects.aget()
        assert tokens_of(found) == (3, row.output_tokens, False)
        assert found.call == row.pk
        assert found.cost_micro == row.cost_micro == 3 + 10 * row.output_tokens > 0

    async def test_a_price_that_changes_meanwhile_is_for_the_next_call(self, alice):
        turn = await running(alice, model="hangs")
        await ChatModelConfig.objects.aupdate(input_price=1000, output_price=1000)

        await generations.stop(turn.generation)
        await nothing_runs()

        found = await entry()
        assert found.cost_micro == found.input_tokens + 10 * found.output_tokens

    async def test_what_was_stopped_before_its_first_piece_has_cost_its_prompt(self, alice):
        scripted.play(Script(pieces=(), hang=True))
        turn = await generations.start(Ask(user=alice, door="test", prompt="one two three"))
        await until(lambda: scripted.calls)

        await generations.stop(turn.generation)
        await nothing_runs()

        assert tokens_of(await entry()) == (3, 0, True)

    async def test_what_did_not_come_in_time_has_cost_its_prompt(self, alice, settings):
        settings.FIRST_TOKEN_TIMEOUT = 0.1
        reset_providers()
        scripted.play(Script(pieces=(), hang=True))

        with pytest.raises(ProviderFailure):
            await complete(Ask(user=alice, door="test", prompt="one two three"))

        assert tokens_of(await entry()) == (3, 0, True)

    async def test_what_was_never_reached_has_cost_nothing(self, alice):
        with pytest.raises(ProviderFailure):
            await complete(Ask(user=alice, door="test", prompt="one two three", model="unavailable"))

        assert tokens_of(await entry()) == (0, 0, False)

    async def test_an_answer_whose_conversation_is_deleted_is_booked_all_the_same(self, alice):
        await running(alice, model="endless")

        await Conversation.objects.all().adelete()
        await nothing_runs()

        found = await entry()
        assert found.estimated
        assert found.output_tokens > 0
        assert not await Generation.objects.aexists()

    async def test_one_that_was_taken_for_dead_is_booked_once(self, alice):
        turn = await running(alice, model="hangs")
        await sync_to_async(turn.generation.end)("One two three", status="interrupted")

        await nothing_runs()

        entries = [row async for row in LedgerEntry.objects.order_by("pk")]
        assert [row.kind for row in entries] == ["call", "correction"]
        assert sum(row.input_tokens for row in entries) == 2
        assert sum(row.output_tokens for row in entries) == 3
        left = await sync_to_async(remaining)(alice)
        assert (left.spent_micro, left.reserved_micro) == (2 + 30, 0)
        row = await Generation.objects.aget()
        assert (row.status, row.output_tokens, row.cost_micro) == ("interrupted", 3, 2 + 30)

    async def test_the_provider_counts_the_prompt_of_an_answer_that_breaks_off(
        self, alice, standin, vendors, settings
    ):
        settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_BASE_URL = "sk-test", standin.url
        standin.script(Answer(pieces=("One", " two"), usage=(777, 2), end="fin"))

        await complete(Ask(user=alice, door="test", prompt="Count", model="claude"))

        found = await entry()
        assert (found.input_tokens, found.estimated) == (777, True)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.usefixtures("settled", "priced")
class TestDeadProcesses:
    async def test_the_sweep_books_what_a_dead_process_left(self, alice):
        turn = await admit(await prepare(Ask(user=alice, door="test", prompt="Go on")))
        await Message.objects.filter(pk=turn.generation.message_id).aupdate(content="Half an ans")
        sweeper = Sweeper(clock=(clock := Clock()))
        await sweeper.sweep()
        clock.now += SILENCE_SECONDS

        assert await sweeper.sweep() == 1

        found, row = await entry(), await Generation.objects.aget()
        assert (row.status, row.usage_estimated) == ("interrupted", True)
        assert tokens_of(found) == (row.input_tokens, row.output_tokens, True)
        assert row.output_tokens > 0
        assert row.cost_micro == found.cost_micro == row.input_tokens + 10 * row.output_tokens

    async def test_a_reservation_whose_answer_is_gone_is_booked_after_a_while(self, alice, settings):
        await running(alice, model="hangs")
        gone = await Reservation.objects.aget()
        await sync_to_async(left_over)(gone, seconds=settings.TOTAL_TIMEOUT + GRACE_SECONDS + 1)
        await sync_to_async(left_over)(gone, seconds=settings.TOTAL_TIMEOUT)
        await Reservation.objects.filter(pk=gone.pk).aupdate(created_at=timezone.now() - timedelta(days=1))

        await Sweeper().sweep()

        # The one that runs has its row, and the young one may have a process.
        assert await Reservation.objects.acount() == 2
        assert await Reservation.objects.filter(pk=gone.pk).aexists()
        assert tokens_of(await LedgerEntry.objects.aget()) == (gone.input_tokens, 0, True)


def left_over(like, *, seconds):
    """A reservation that no answer belongs to."""
    return Reservation.objects.create(
        **like.terms(),
        call=uuid4(),
        amount_micro=0,
        input_tokens=like.input_tokens,
        created_at=timezone.now() - timedelta(seconds=seconds),
    )


def test_a_free_call_costs_four_statements(alice, models):
    headers = bearer(alice)
    with CaptureQueriesContext(connection) as queries:
        answer = Client().post(
            "/api/predict", {"prompt": "Hello"}, content_type="application/json", headers=headers
        )

    assert answer.status_code == 200, answer.content
    tables = ("accounts_reservation", "accounts_ledgerentry", "accounts_spending")
    statements = [query["sql"] for query in queries if any(table in query["sql"] for table in tables)]
    assert len(statements) == 4, statements


# --- The vendor's report -------------------------------------------------------------------------


@pytest.mark.usefixtures("settled", "priced")
class TestReports:
    async def test_one_may_name_the_request(self, alice):
        scripted.play(Script(pieces=("a", "b"), reports_usage=False))
        await complete(Ask(user=alice, door="test", prompt="one two", request_id="req-1"))

        result = await sync_to_async(corrected)(
            '\n{"request_id": "req-1", "input_tokens": 5, "output_tokens": 7}\n'
        )

        row = await Generation.objects.aget()
        assert (row.input_tokens, row.output_tokens, row.cost_micro, row.usage_estimated) == (5, 7, 75, False)
        assert result == {"corrected": 1, "unchanged": 0, "difference": "0.000063"}

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{", "line 2: "),
            ("[1]", "line 2: not a JSON object"),
            ('{"call": "CALL", "input_tokens": -1, "output_tokens": 1}', "line 2: input_tokens must be"),
            ('{"call": "CALL", "input_tokens": 1, "output_tokens": true}', "line 2: output_tokens must be"),
            ('{"call": "CALL", "input_tokens": 1}', "line 2: output_tokens must be"),
            ('{"call": 5, "input_tokens": 1, "output_tokens": 1}', "line 2: call must be the id"),
            ('{"input_tokens": 1, "output_tokens": 1}', "line 2: call must be the id"),
            (
                '{"call": "00000000-0000-0000-0000-000000000000", "input_tokens": 1, "output_tokens": 1}',
                "line 2: the call 00000000-0000-0000-0000-000000000000 is not booked",
            ),
            ('{"request_id": "twice", "input_tokens": 1, "output_tokens": 1}', "line 2: several answers"),
            ('{"request_id": "never", "input_tokens": 1, "output_tokens": 1}', "line 2: no answer has"),
        ],
    )
    async def test_one_wrong_line_stops_all_of_them(self, line, reason, alice):
        for _ in range(2):
            scripted.play(Script(pieces=("a", "b"), reports_usage=False))
            await complete(Ask(user=alice, door="test", prompt="one two", request_id="twice"))
        call = str((await LedgerEntry.objects.afirst()).call)
        good = json.dumps({"call": call, "input_tokens": 1, "output_tokens": 1})

        with pytest.raises(CommandError, match=reason):
            await sync_to_async(corrected)(f"{good}\n{line.replace('CALL', call)}")

        assert await LedgerEntry.objects.acount() == 2

    async def test_what_breaks_off_is_finished_with_the_same_file(self, alice, monkeypatch):
        for number in range(5):
            scripted.play(Script(pieces=("a", "b"), reports_usage=False))
            await complete(Ask(user=alice, door="test", prompt=f"one two {number}"))
        calls = [entry.call async for entry in LedgerEntry.objects.order_by("pk")]
        lines = "\n".join(
            json.dumps({"call": str(call), "input_tokens": 1, "output_tokens": 1}) for call in calls
        )
        tries = []

        def locked_at_the_fourth(*args, **values):
            tries.append(args)
            if len(tries) == 4:
                raise OperationalError("database is locked")
            return correct(*args, **values)

        with monkeypatch.context() as patch:
            patch.setattr(correct_usage, "AT_ONCE", 2)
            patch.setattr(correct_usage, "correct", locked_at_the_fourth)
            with pytest.raises(CommandError, match="2 of 5 lines were booked, then: database is locked"):
                await sync_to_async(corrected)(lines)

        # The third was in one transaction with the fourth.
        assert await LedgerEntry.objects.filter(kind="correction").acount() == 2
        result = await sync_to_async(corrected)(lines)
        assert (result["corrected"], result["unchanged"]) == (3, 2)
        assert (await sync_to_async(corrected)(lines))["corrected"] == 0

    def test_a_file_that_is_not_there_is_one_line(self):
        with pytest.raises(CommandError, match="nowhere"):
            call_command("correct_usage", "/nowhere.jsonl")
