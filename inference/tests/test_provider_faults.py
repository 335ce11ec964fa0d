"""A provider that fails, at the doors: who answers, what is told, what is kept, and what the vendors saw."""

import asyncio
import json

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from accounts.ledger import remaining
from accounts.models import LedgerEntry, Reservation
from accounts.tests.redis_servers import own_redis
from conftest import bearer
from inference import fallback
from inference.circuits import Deployment, circuits, states
from inference.models import ChatModelConfig, Generation, Message, ModelFallback, Status
from inference.tests.doors import post
from inference.tests.mixed_calls import client_of
from inference.tests.providers.conftest import closed_url  # noqa: F401 - a fixture
from inference.tests.standin import Answer, StandIn
from inference.tests.waiting import until
from llmsite.testing.site import Site

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

FAILED = Answer(status=500)
WHOLE = Answer(pieces=("Hello", ",", " world", "!"), usage=(10, 4))


@pytest.fixture
def second():
    with StandIn() as server:
        yield server


@pytest.fixture
def chain(db, standin, second, settings, monkeypatch):
    """`gpt` at the first stand-in, in whose place `claude` answers, at the second."""
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = "sk-test"
    settings.OPENAI_BASE_URL, settings.ANTHROPIC_BASE_URL = f"{standin.url}/v1", second.url
    monkeypatch.setattr(fallback, "FIRST_WAIT_SECONDS", 0.01)
    ChatModelConfig.objects.all().delete()
    gpt = ChatModelConfig.objects.create(
        alias="gpt", provider="openai", provider_model="gpt", input_price=2, output_price=8, is_default=True
    )
    claude = ChatModelConfig.objects.create(
        alias="claude", provider="anthropic", provider_model="claude", input_price=3, output_price=15
    )
    ModelFallback.objects.create(model=gpt, fallback=claude)
    standin.choose = second.choose = lambda body: WHOLE
    return gpt


@pytest.fixture
def alone(chain):
    """`gpt` without anybody in its place."""
    chain.chain.all().delete()
    return chain


def calls(*servers):
    return tuple(len(server.calls) for server in servers)


async def predict(user, prompt="Hello", **values):
    return await post(user, "/api/predict", {"prompt": prompt, "model": "gpt", **values})


async def stream(user, prompt="Hello", **values):
    """The events of an answer; an error before the first is the response itself."""
    answer = await post(user, "/api/predict/stream", {"prompt": prompt, "model": "gpt", **values})
    if answer.status_code != 200:
        return answer
    body = b"".join([chunk async for chunk in answer.streaming_content])
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]


async def openai_door(user, prompt="Hello", **values):
    body = {"model": "gpt", "messages": [{"role": "user", "content": prompt}], **values}
    return await post(user, "/v1/chat/completions", body)


def code_of(answer):
    return answer.json()["error"]["code"]


async def the_row():
    return await Generation.objects.select_related("message__parent").aget()


class TestAnotherModelAnswers:
    @pytest.mark.parametrize("status", [500, 502, 503, 529])
    async def test_a_whole_answer_names_who_gave_it(self, alice, chain, standin, second, status):
        standin.choose = lambda body: Answer(status=status)

        answer = await predict(alice)

        assert answer.status_code == 200
        shown = answer.json()
        assert (shown["text"], shown["model"], shown["provider"]) == ("Hello, world!", "claude", "anthropic")
        assert (answer["X-Llmsite-Model"], answer["X-Llmsite-Fallbacks"]) == ("claude", "1")
        assert calls(standin, second) == (3, 1)
        row = await the_row()
        assert (row.model_alias, row.provider, row.requested_model) == ("claude", "anthropic", "gpt")
        assert [(one["model"], one["calls"]) for one in row.attempts] == [("gpt", 3)]

    async def test_a_streamed_one_too(self, alice, chain, standin, second):
        standin.choose = lambda body: FAILED

        started, *_, finished = await stream(alice)

        assert (started["model"], started["requested_model"], started["fallbacks"]) == ("claude", "gpt", 1)
        assert finished["type"] == "finished"
        assert calls(standin, second) == (3, 1)

    async def test_below_v1_too(self, alice, chain, standin, second):
        standin.choose = lambda body: FAILED

        answer = await openai_door(alice)

        assert answer.status_code == 200
        assert answer.json()["model"] == "claude"
        assert answer["X-Llmsite-Fallbacks"] == "1"

    async def test_it_is_booked_at_the_price_of_who_answered(self, alice, chain, standin):
        standin.choose = lambda body: FAILED

        await predict(alice)

        # 10 tokens at 3 and 4 at 15 millionths.
        assert (await sync_to_async(remaining)(alice)).spent_micro == 90
        assert not await Reservation.objects.aexists()

    async def test_what_it_said_is_not_kept_as_the_first_models_answer(self, alice, chain, standin, second):
        standin.script(FAILED, FAILED, FAILED)
        await predict(alice)

        answer = await predict(alice)

        assert answer.json()["model"] == "gpt"
        assert answer.json()["cache"] is None
        assert calls(standin, second) == (4, 1)

    @pytest.mark.parametrize("answer", [Answer(status=401), Answer(status=403), Answer(status=404)])
    async def test_who_cannot_be_asked_is_asked_once(self, alice, chain, standin, second, answer, caplog):
        standin.choose = lambda body: answer

        models = [(await predict(alice, f"Hello {number}")).json()["model"] for number in range(4)]

        assert models == ["claude"] * 4
        assert calls(standin, second) == (1, 4)
        told = [record.msg for record in caplog.records if record.name == "llmsite.circuits"]
        assert [(one["event"], one["provider"], one["code"]) for one in told] == [
            ("provider_paused", "openai", "provider_rejected")
        ]
        [row] = await states()
        assert (row.provider, row.state) == ("openai", "open")

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(pieces=(), error={"type": "overloaded_error", "message": "Overloaded"}),
            Answer(raw=b""),
            Answer(pieces=(), end="fin"),
        ],
        ids=["an error as the first event", "empty", "cut before a piece"],
    )
    async def test_a_status_of_200_is_no_answer_yet(self, alice, chain, standin, second, answer):
        standin.choose = lambda body: answer

        assert (await predict(alice)).json()["model"] == "claude"
        assert calls(standin, second) == (3, 1)

    async def test_no_first_piece_in_time(self, alice, chain, standin, second, settings):
        settings.FIRST_TOKEN_TIMEOUT = 0.3
        standin.choose = lambda body: Answer(head_start=30)

        assert (await predict(alice)).json()["model"] == "claude"
        assert calls(standin, second) == (1, 1)
        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)

    async def test_a_short_wait_is_waited_for(self, alice, chain, standin, second):
        standin.script(Answer(status=429, headers={"retry-after-ms": "100"}))

        assert (await predict(alice)).json()["model"] == "gpt"
        assert calls(standin, second) == (2, 0)

    @pytest.mark.parametrize("first", ["openai", "local"])
    async def test_a_prompt_that_would_have_to_be_counted_where_nobody_is(
        self,
        alice,
        chain,
        second,
        settings,
        closed_url,  # noqa: F811
        first,
    ):
        """The tokens of a long one are counted by the model's server, which is away itself."""
        settings.OPENAI_BASE_URL = settings.LOCAL_BASE_URL = closed_url
        await ChatModelConfig.objects.filter(pk=chain.pk).aupdate(provider=first, context_window=4000)

        answer = await predict(alice, "word " * 2000)

        assert answer.status_code == 200, answer.content
        assert answer.json()["model"] == "claude"
        assert calls(second) == (1,)

    async def test_a_fallback_whose_address_is_not_listed_any_more_is_left_out(
        self, alice, chain, standin, second
    ):
        gone = await ChatModelConfig.objects.acreate(
            alias="gone", provider="local", provider_model="gone", base_url="http://gpu9:8000/v1"
        )
        await ModelFallback.objects.filter(model=chain).aupdate(position=2)
        await ModelFallback.objects.acreate(model=chain, fallback=gone, position=1)
        standin.choose = lambda body: FAILED

        assert (await predict(alice)).json()["model"] == "claude"


class TestNobodyElseIsAsked:
    @pytest.mark.parametrize("status", [400, 413, 422])
    async def test_the_question_is_at_fault(self, alice, chain, standin, second, status):
        standin.choose = lambda body: Answer(status=status)

        answers = [await predict(alice), await stream(alice, "Other"), await openai_door(alice, "Third")]

        assert [answer.status_code for answer in answers] == [400] * 3
        assert {code_of(answer) for answer in answers} == {"request_rejected"}
        assert calls(standin, second) == (3, 0)

    async def test_the_prompt_is_too_long(self, alice, chain, standin, second):
        said = "prompt is too long: 5000 tokens > 4096 maximum"
        body = {"error": {"type": "invalid_request_error", "message": said}}
        standin.choose = lambda _: Answer(status=400, body=body)

        answer = await predict(alice)

        assert (answer.status_code, code_of(answer)) == (400, "context_length_exceeded")
        assert calls(standin, second) == (1, 0)

    @pytest.mark.parametrize("end", ["fin", "rst", "no_end_mark"])
    async def test_the_answer_is_cut(self, alice, chain, standin, second, end):
        standin.choose = lambda body: Answer(pieces=("Hel", "lo"), end=end, usage=(10, 2))

        events = await stream(alice)

        assert [event["type"] for event in events] == ["started", "delta", "delta", "error"]
        assert events[-1]["code"] == "upstream_cut"
        assert calls(standin, second) == (1, 0)
        row = await the_row()
        assert (row.status, row.message.content) == (Status.CUT, "Hello")
        assert row.cost_micro > 0
        assert not await Reservation.objects.aexists()
        # It is not kept: the next one who asks gets a whole answer.
        standin.choose = lambda body: WHOLE
        assert (await predict(alice)).json()["text"] == "Hello, world!"

    async def test_an_answer_without_an_end_is_given_one(self, alice, chain, standin, second):
        standin.choose = lambda body: Answer(pieces=("x" * 500,) * 10_000, end="hang")

        *_, finished = await stream(alice, max_tokens=10)

        assert (finished["type"], finished["finish_reason"]) == ("finished", "length")
        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)

    async def test_an_answer_that_falls_silent_is_ended(self, alice, chain, standin, settings):
        settings.IDLE_TIMEOUT = 0.3
        standin.choose = lambda body: Answer(pieces=("Hel",), end="hang")

        events = await stream(alice)

        assert (events[-1]["type"], events[-1]["code"]) == ("error", "provider_timeout")
        assert await asyncio.to_thread(standin.calls[0].client_left.wait, 1)


class TestNobodyIsLeft:
    async def test_the_wait_that_was_asked_for_is_told(self, alice, alone, standin):
        standin.choose = lambda body: Answer(status=429, headers={"retry-after": "600"})

        answers = [await predict(alice), await stream(alice, "Other"), await openai_door(alice, "Third")]

        assert [answer.status_code for answer in answers] == [503] * 3
        assert [code_of(answer) for answer in answers] == [
            "provider_rate_limited",
            "no_provider",
            "no_healthy_deployment",  # OpenAI's word for it.
        ]
        assert answers[0]["Retry-After"] == "600"
        assert all(595 <= int(answer["Retry-After"]) <= 600 for answer in answers)
        assert calls(standin) == (1,)

    async def test_it_is_told_at_once_the_question_is_kept_and_it_heals_itself(
        self, alice, chain, standin, second, monkeypatch
    ):
        monkeypatch.setattr("inference.circuits.COOL_DOWN_SECONDS", 1.0)
        standin.choose = second.choose = lambda body: FAILED
        for number in range(2):
            assert (await predict(alice, f"Hello {number}")).status_code == 502
        seen = calls(standin, second)

        refused = [await predict(alice, f"Again {number}") for number in range(3)]

        assert [(answer.status_code, code_of(answer)) for answer in refused] == [(503, "no_provider")] * 3
        assert all(1 <= int(answer["Retry-After"]) <= 2 for answer in refused)
        assert calls(standin, second) == seen
        assert await Message.objects.filter(role="user", content="Again 2").aexists()
        assert (await sync_to_async(remaining)(alice)).reserved_micro == 0
        standin.choose = second.choose = lambda body: WHOLE
        await until(lambda: not circuits.pause_of(Deployment("openai", "", "gpt")))

        assert (await predict(alice, "And now?")).json()["model"] == "gpt"
        assert calls(standin, second) == (seen[0] + 1, seen[1])

    async def test_a_refusal_costs_nothing(self, alice, alone, standin):
        standin.choose = lambda body: Answer(status=429, headers={"retry-after": "600"})
        for number in range(2):
            await predict(alice, f"Hello {number}")

        assert (await sync_to_async(remaining)(alice)).spent_micro == 0

    async def test_nobody_at_the_address(self, alice, alone, settings, closed_url):  # noqa: F811
        settings.OPENAI_BASE_URL = f"{closed_url}/v1"

        codes = [code_of(await predict(alice, f"Hello {number}")) for number in range(3)]

        assert codes == ["provider_unavailable", "provider_unavailable", "no_provider"]


class TestWhatIsBooked:
    async def test_a_fallback_that_is_skipped_leaves_the_call_the_first_models(
        self, alice, chain, standin, second
    ):
        standin.choose = lambda body: FAILED
        second.choose = lambda body: Answer(status=404)

        await predict(alice)
        await predict(alice, "Again")

        assert calls(standin, second) == (5, 1)
        entries = [(entry.model, entry.provider) async for entry in LedgerEntry.objects.order_by("pk")]
        assert entries == [("claude", "anthropic"), ("gpt", "openai")]

    @pytest.mark.parametrize("status", [401, 429])
    async def test_a_fallback_that_was_left_has_cost_its_prompt(
        self, alice, chain, standin, second, settings, status
    ):
        settings.FIRST_TOKEN_TIMEOUT = 0.3
        standin.choose = lambda body: Answer(status=status, headers={"retry-after": "600"})
        second.choose = lambda body: Answer(head_start=30)

        answer = await predict(alice)

        assert code_of(answer) == ("provider_rejected" if status == 401 else "provider_rate_limited")
        entry = await LedgerEntry.objects.aget()
        assert (entry.model, entry.estimated, entry.output_tokens) == ("claude", True, 0)
        assert entry.input_tokens > 0
        assert entry.cost_micro == 3 * entry.input_tokens

    async def test_a_fallback_that_the_budget_does_not_bear_is_not_asked(self, alice, chain, standin, second):
        await ChatModelConfig.objects.filter(alias="claude").aupdate(input_price=10_000)
        await sync_to_async(give_budget)(alice, 100_000)
        standin.choose = lambda body: FAILED

        answer = await predict(alice)

        assert (answer.status_code, code_of(answer)) == (502, "provider_error")
        assert calls(standin, second) == (3, 0)
        entry = await LedgerEntry.objects.aget()
        assert (entry.model, entry.cost_micro) == ("gpt", 0)

    async def test_who_waited_in_our_own_queue_in_vain_pays_nothing(self, alice, alone, standin, settings):
        await predict(alice, "The first call imports the SDK, which takes its time")
        standin.reset()
        settings.PROVIDER_CONCURRENCY, settings.FIRST_TOKEN_TIMEOUT = 1, 1
        standin.choose = lambda body: Answer(pieces=("a", "b"), gap=30)
        running = asyncio.create_task(predict(alice))
        assert await asyncio.to_thread(standin.wait_for_calls, 1)

        answer = await predict(alice, "Other")

        assert (answer.status_code, code_of(answer)) == (503, "provider_busy")
        entry = await LedgerEntry.objects.order_by("pk").alast()
        assert (entry.input_tokens, entry.cost_micro) == (0, 0)
        assert await states() == []
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def test_half_a_character_is_replaced_and_the_answer_kept(self, alice, chain, standin):
        standin.choose = lambda body: Answer(raw=HALVES)

        answer = await predict(alice)

        assert answer.json()["text"] == "a\ufffdb😀\ufffd"
        row = await the_row()
        assert (row.status, row.message.content) == (Status.FINISHED, "a\ufffdb😀\ufffd")


HALVES = (
    b"".join(
        b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % piece
        for piece in (rb"a\ud83d", rb"b\ud83d", rb"\ude00", rb"\u0000")
    )
    + b"data: [DONE]\n\n"
)


def give_budget(user, micro):
    user.monthly_budget_micro = micro
    user.save()


class TestManyCallers:
    async def test_so_many_run_so_many_wait_and_the_rest_is_told_at_once(
        self, alice, alone, standin, settings
    ):
        settings.PROVIDER_CONCURRENCY, settings.PROVIDER_QUEUE = 3, 2
        standin.choose = lambda body: Answer(head_start=30)
        tasks = [asyncio.create_task(predict(alice, f"Hello {number}")) for number in range(20)]
        await until(lambda: sum(task.done() for task in tasks) == 15)

        answers = [task.result() for task in tasks if task.done()]

        assert {(answer.status_code, code_of(answer)) for answer in answers} == {(503, "provider_busy")}
        assert {answer["Retry-After"] for answer in answers} == {"1"}
        assert await asyncio.to_thread(standin.wait_for_calls, 3, seconds=20)
        assert len(standin.calls) == 3
        # Others are served meanwhile, and nobody is blamed.
        assert (await AsyncClient().get("/health/live")).status_code == 200
        assert await states() == []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not Generation.objects.running().exists())

    async def test_the_next_model_answers_for_a_busy_one(self, alice, chain, standin, second, settings):
        settings.PROVIDER_CONCURRENCY, settings.PROVIDER_QUEUE = 1, 0
        standin.choose = lambda body: Answer(head_start=30)
        waiting = asyncio.create_task(predict(alice))
        assert await asyncio.to_thread(standin.wait_for_calls, 1)

        assert (await predict(alice, "Other")).json()["model"] == "claude"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.flows
class TestWholeProcesses:
    """Two real web processes at one pair of vendors."""

    @pytest.fixture
    def environment(self, standin, second):
        with own_redis() as server:
            yield {
                "REDIS_URL": server.url,
                "OPENAI_API_KEY": "sk-test",
                "OPENAI_BASE_URL": f"{standin.url}/v1",
                "ANTHROPIC_API_KEY": "sk-test",
                "ANTHROPIC_BASE_URL": second.url,
            }

    async def test_what_one_process_learns_the_other_one_knows(self, alice, alone, standin, environment):
        headers = await sync_to_async(bearer)(alice)
        standin.choose = lambda body: Answer(status=429, headers={"retry-after": "600"})
        with Site(**environment) as first, Site(**environment) as other:
            async with client_of(first, headers) as here, client_of(other, headers) as there:
                question = {"prompt": "Hello", "model": "gpt"}
                refused = await here.post("/api/predict", json=question)
                told = await there.post("/api/predict", json=question)

        assert refused.json()["error"]["code"] == "provider_rate_limited"
        assert told.json()["error"]["code"] == "no_provider"
        assert 590 <= int(told.headers["Retry-After"]) <= 600
        assert calls(standin) == (1,)

    @pytest.mark.parametrize("path", ["/api/predict", "/v1/chat/completions"])
    async def test_a_client_that_leaves_ends_the_call_upstream(
        self, alice, alone, standin, environment, path
    ):
        headers = await sync_to_async(bearer)(alice)
        standin.choose = lambda body: Answer(pieces=("word ",) * 1000, gap=0.05)
        messages = [{"role": "user", "content": "Hello"}]
        body = {"prompt": "Hello"} if path == "/api/predict" else {"messages": messages, "stream": True}
        with Site(**environment) as site:
            async with client_of(site, headers) as client:
                asking = asyncio.create_task(client.post(path, json={"model": "gpt", **body}))
                assert await asyncio.to_thread(standin.wait_for_calls, 1)
                asking.cancel()
                with pytest.raises((asyncio.CancelledError, httpx2.HTTPError)):
                    await asking
                assert await asyncio.to_thread(standin.calls[0].client_left.wait, 5)
                row = await until(lambda: Generation.objects.filter(status=Status.STOPPED).first())

        assert row.finish_reason == "cancelled"
        assert not await Reservation.objects.aexists()
