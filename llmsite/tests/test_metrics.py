"""The site's numbers: what `GET /metrics` and `GET /api/metrics` tell, and whom."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from accounts import roles
from accounts.models import Scope
from conftest import bearer, sign_in_client
from embeddings.tests.indexes.library import add_document, make_collection
from inference.circuits import Deployment, circuits
from inference.hit_writer import hit_writer
from inference.models import ChatModelConfig, Generation
from inference.reactions import Blame, Reaction
from inference.tests.doors import by_conversation, connect, post, sse
from llmsite.core.errors import DatabaseAway
from llmsite.core.rates import Rate
from llmsite.metrics import doors, gauges
from llmsite.metrics.gauges import Gauges
from llmsite.metrics.summary import quantile, summarize
from llmsite.tests import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}


@pytest.fixture(autouse=True)
def _read_anew(monkeypatch, settings):
    """Each scrape tells how things are, and nobody waits for a model process that there is not."""
    monkeypatch.setattr(doors, "gauges", Gauges(kept_seconds=0))
    settings.MODEL_URL = "http://127.0.0.1:9"


def values_in(text):
    """Every sample by its name and the values of its labels, in the order of their names."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def _ends(*counts):
    """The buckets of a histogram."""
    return list(zip(["1.0", "2.5", "30.0", "60.0", "+Inf"], counts, strict=True))


async def scraped():
    answer = await AsyncClient().get("/metrics")
    assert answer.status_code == 200
    return values_in(answer.content.decode())


async def grown(work):
    """What `work` adds to each number."""
    before = await scraped()
    await work()
    after = await scraped()
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


class TestWhoMayScrape:
    def test_this_machine_without_a_token(self, client):
        answer = client.get("/metrics")

        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain; version=")

    def test_nobody_else(self, client):
        answer = client.get("/metrics", **ELSEWHERE)

        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "permission_denied"

    @pytest.mark.parametrize(
        "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Proto"]
    )
    def test_not_a_proxy_on_this_machine_that_nobody_named(self, client, header):
        assert client.get("/metrics", headers={header: "203.0.113.9"}).status_code == 403

    def test_behind_a_named_proxy_the_address_is_the_callers(self, client, settings):
        settings.TRUSTED_PROXIES = ["127.0.0.1/32"]
        headers = {"X-Forwarded-For": "203.0.113.9"}

        assert client.get("/metrics", headers=headers, **ELSEWHERE).status_code == 403
        assert client.get("/metrics", headers=headers).status_code == 200

    def test_with_a_token_whoever_has_it(self, client, settings):
        settings.METRICS_TOKEN = "scrape-me"

        told = [
            client.get("/metrics", headers=headers, **place).status_code
            for place in ({}, ELSEWHERE)
            for headers in (
                {},
                {"Authorization": "Bearer scrape-m"},
                {"Authorization": "Basic scrape-me"},
                {"Authorization": "Bearer scrape-me"},
            )
        ]

        assert told == [401, 401, 401, 200] * 2

    def test_it_is_refused_to_nobody_because_others_ask_too_much(self, client, settings):
        settings.RATE_LIMIT_ADDRESS = Rate(1, 60)
        client.get("/login/")
        assert client.get("/login/").status_code == 429

        assert client.get("/metrics").status_code == 200
        assert client.get("/health/stream").status_code == 429

    def test_it_is_told_over_http_too(self, client, settings):
        """As Prometheus asks within a machine or a network of containers."""
        settings.SECURE_SSL_REDIRECT = True

        assert client.get("/metrics").status_code == 200


@pytest.mark.usefixtures("models")
class TestWhatIsCounted:
    async def test_an_answer_and_its_request(self, alice):
        async def ask():
            answer = await post(alice, "/api/predict", {"prompt": "What is a fox?", "model": "scripted"})
            assert answer.status_code == 200

        new = await grown(ask)

        assert new["llmsite_http_requests_total", "POST", "/api/predict", "200"] == 1
        assert new["llmsite_http_request_duration_seconds_count", "/api/predict"] == 1
        assert new["llmsite_generation_requests_total", "scripted", "finished", "scripted"] == 1
        assert new["llmsite_generation_duration_seconds_count", "scripted", "scripted"] == 1
        assert new["llmsite_time_to_first_token_seconds_count", "scripted", "scripted"] == 1
        assert new["llmsite_time_per_output_token_seconds_count", "scripted", "scripted"] == 1
        assert new["llmsite_tokens_total", "scripted", "scripted", "input"] > 0
        assert new["llmsite_tokens_total", "scripted", "scripted", "output"] > 0
        assert new["llmsite_cache_requests_total", "all", "miss"] == 1

    async def test_an_answer_from_the_cache_took_no_model(self, alice):
        question = {"prompt": "What is a fox?", "model": "scripted"}
        await post(alice, "/api/predict", question)

        async def ask():
            await post(alice, "/api/predict", question)
            await hit_writer.flush()

        new = await grown(ask)

        assert new["llmsite_cache_requests_total", "l1", "hit"] == 1
        assert new["llmsite_generation_requests_total", "scripted", "finished", "scripted"] == 1
        assert new["llmsite_generation_duration_seconds_count", "scripted", "scripted"] == 1
        assert new["llmsite_time_to_first_token_seconds_count", "scripted", "scripted"] == 0
        assert new["llmsite_tokens_total", "scripted", "scripted", "output"] == 0

    async def test_nor_did_one_on_a_page_which_has_its_rows_at_once(self, alice):
        async def ask():
            assert await by_conversation(alice, "What is a fox?", "scripted")

        await ask()
        new = await grown(ask)

        assert new["llmsite_cache_requests_total", "l1", "hit"] == 1
        assert new["llmsite_generation_requests_total", "scripted", "finished", "scripted"] == 1
        assert new["llmsite_time_to_first_token_seconds_count", "scripted", "scripted"] == 0

    async def test_what_it_cost(self, alice, models):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(output_price=900_000)

        async def ask():
            await post(alice, "/api/predict", {"prompt": "What is a fox?", "model": "scripted"})

        new = await grown(ask)

        answer = await Generation.objects.aget()
        assert new["llmsite_cost_usd_total", "scripted", "scripted"] == pytest.approx(answer.cost_micro / 1e6)
        assert answer.cost_micro > 0

    async def test_who_answered_instead_and_why(self, alice, models):
        await models["unavailable"].chain.acreate(fallback=models["echo"])

        async def ask():
            answer = await post(alice, "/api/predict", {"prompt": "Hello?", "model": "unavailable"})
            assert answer.status_code == 200

        new = await grown(ask)

        assert new["llmsite_fallbacks_total", "unavailable", "provider_unavailable", "echo"] == 1

    async def test_what_is_refused(self, alice, settings):
        settings.RATE_LIMIT = Rate(1, 60)
        headers = await sync_to_async(bearer)(alice)

        async def ask():
            for _ in range(3):
                await AsyncClient().get("/api/models", headers=headers)

        new = await grown(ask)

        assert new["llmsite_ratelimit_rejected_total", "keys-of"] == 2
        assert new.get(("llmsite_ratelimit_rejected_total", "address"), 0) == 0

    async def test_what_a_budget_does_not_bear(self, alice):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(output_price=900_000)
        alice.monthly_budget_micro = 1
        await alice.asave()

        async def ask():
            answer = await post(alice, "/api/predict", {"prompt": "Hello?", "model": "scripted"})
            assert answer.status_code == 429

        assert (await grown(ask))["llmsite_budget_rejected_total",] == 1

    async def test_answers_under_way_and_open_sockets(self, alice):
        before = await scraped()
        socket = await connect(alice)
        answer = await post(alice, "/api/predict/stream", {"prompt": "Go on", "model": "endless"})
        during = await scraped()
        await socket.disconnect()
        generation = await Generation.objects.aget()
        await post(alice, f"/api/generations/{generation.pk}/stop", {})
        assert [event async for event in sse(answer)]
        after = await scraped()

        assert during["llmsite_generations_in_progress",] == 1
        assert after["llmsite_generations_in_progress",] == 0
        open_sockets = [one.get(("llmsite_streams_open", "websocket"), 0) for one in (before, during, after)]
        assert open_sockets == [open_sockets[0], open_sockets[0] + 1, open_sockets[0]]

    async def test_no_name_of_a_person_or_a_key_is_a_label(self, alice):
        await post(alice, "/api/predict", {"prompt": "My canary is Tweety", "model": "scripted"})
        await AsyncClient().get("/chat/alice-was-here/")
        text = (await AsyncClient().get("/metrics")).content.decode()

        for secret in ("alice", "Tweety", "alice-was-here"):
            assert secret not in text


@pytest.mark.usefixtures("models")
class TestHowThingsStand:
    async def test_tasks_by_their_state(self):
        await sync_to_async(tasks.plain.enqueue)("one")

        assert (await scraped())["llmsite_jobs", "default", "ready"] == 1

    async def test_chunks_of_the_indexes(self, alice):
        collection = await sync_to_async(make_collection)(alice)
        await sync_to_async(add_document)(collection, "one", "two", "three")

        assert (await scraped())["llmsite_index_chunks",] == 3

    async def test_the_loss_of_trainings_that_run(self, alice):
        from training.tests.making import make_run

        run = await sync_to_async(make_run)(alice, status="running")
        for step, loss in ((1, 2.0), (2, 1.5), (3, None)):
            await run.metrics.acreate(step=step, loss=loss)
        told = await scraped()

        assert told["llmsite_training_loss", str(run.pk)] == 1.5
        assert told["llmsite_jobs", "training", "running"] == 1

    async def test_which_adapter_stands_behind_a_model(self):
        await ChatModelConfig.objects.filter(alias="scripted").aupdate(adapter="fox-0123")

        assert (await scraped())["llmsite_adapter_info", "scripted", "fox-0123"] == 1

    async def test_circuits(self):
        broken = Deployment("scripted", "", "scripted")
        await circuits.failed(broken, Reaction(blame=Blame.MODEL, pause=60), code="provider_error")
        told = await scraped()

        assert told["llmsite_deployment_state", "scripted/scripted"] == 2
        assert told["llmsite_deployment_state", "echo/echo"] == 0

    async def test_an_absent_model_process(self):
        assert (await scraped())["llmsite_model_up",] == 0

    async def test_a_part_that_cannot_be_read_is_told_and_the_rest_too(self, monkeypatch):
        def away():
            raise DatabaseAway

        monkeypatch.setattr(gauges, "_jobs", away)
        monkeypatch.setattr(doors, "gauges", Gauges(kept_seconds=0))
        told = await scraped()

        assert told["llmsite_scrape_failed", "database"] == 1
        assert told["llmsite_scrape_failed", "model"] == 0
        assert ("llmsite_generations_in_progress",) not in told
        assert ("llmsite_model_up",) in told

    async def test_what_takes_too_long_is_left_out_and_not_begun_twice(self, monkeypatch):
        begun, go_on = [], asyncio.Event()

        async def slow():
            begun.append(1)
            await go_on.wait()
            return []

        monkeypatch.setattr(gauges, "MOST_SECONDS", 0.01)
        source = gauges._Source("slow", slow, 0)
        assert await source.tell() is None
        assert await source.tell() is None
        go_on.set()

        monkeypatch.setattr(gauges, "MOST_SECONDS", 5)
        assert await source.tell() == []
        assert begun == [1]

    async def test_what_took_too_long_is_told_at_the_next_scrape_however_late_that_is(self, monkeypatch):
        """Prometheus scrapes less often than a reading is kept."""
        now, told = [0.0], gauges.gauge("x", "x", [], [((), 1)])

        async def slow():
            await asyncio.sleep(0.05)
            return [told]

        monkeypatch.setattr(gauges, "MOST_SECONDS", 0.02)
        monkeypatch.setattr(gauges, "time", SimpleNamespace(monotonic=lambda: now[0]))
        source = gauges._Source("slow", slow, 5.0)
        assert await source.tell() is None
        await source._reading

        now[0] += 15
        assert await source.tell() == [told]
        now[0] += 15
        assert await source.tell() is None, "it is read anew"

    def test_it_takes_few_queries_and_then_none_for_a_while(self, client, monkeypatch, alice):
        add_document(make_collection(alice), "one")
        monkeypatch.setattr(doors, "gauges", Gauges(kept_seconds=5))
        client.get("/metrics")
        with CaptureQueriesContext(connection) as again:
            client.get("/metrics")
        monkeypatch.setattr(doors, "gauges", Gauges(kept_seconds=0))
        with CaptureQueriesContext(connection) as first:
            client.get("/metrics")

        assert [query["sql"] for query in again] == []
        assert len(first) <= 8, [query["sql"] for query in first]


@pytest.mark.usefixtures("models")
class TestTheSummary:
    @pytest.fixture
    def operator(self, make_user):
        user = make_user("olga")
        roles.set_roles(user, [roles.MEMBER, roles.OPERATOR])
        return user

    async def told(self, user):
        headers = await sync_to_async(bearer)(user, scopes=[Scope.METRICS])
        answer = await AsyncClient().get("/api/metrics", headers=headers)
        assert answer.status_code == 200
        return answer.json()

    async def test_it_sums_up_what_was_asked(self, alice, operator):
        before = await self.told(operator)
        for model in ("scripted", "scripted", "unavailable"):
            await post(alice, "/api/predict", {"prompt": "What is a fox?", "model": model})
        await hit_writer.flush()
        after = await self.told(operator)

        new = {
            name: after[name] - before[name]
            for name in ("total_requests", "cache_hits", "cache_misses", "errors")
        }
        assert new == {"total_requests": 3, "cache_hits": 1, "cache_misses": 2, "errors": 1}
        assert after["requests_per_minute"] == 3
        assert after["levels"]["l1"] - before["levels"]["l1"] == 1
        hits, misses = after["cache_hits"], after["cache_misses"]
        assert after["cache_hit_rate"] == pytest.approx(hits / (hits + misses), abs=1e-4)
        assert after["avg_latency"] == pytest.approx(
            after["total_latency"] / after["total_requests"], abs=1e-3
        )
        assert 0 < after["latency"]["p50"] <= after["latency"]["p95"] <= after["latency"]["p99"]
        assert after["tokens"]["output"] > before["tokens"]["output"]

    async def test_old_questions_are_not_of_the_last_minute(self, alice, operator):
        await post(alice, "/api/predict", {"prompt": "What is a fox?", "model": "scripted"})
        await Generation.objects.aupdate(created_at=timezone.now() - timedelta(minutes=2))

        assert (await self.told(operator))["requests_per_minute"] == 0

    def test_it_is_for_operators(self, operator, alice, make_user):
        curator = make_user("carl")
        roles.set_roles(curator, [roles.CURATOR])
        told = {
            "a member": bearer(alice),
            "a curator": bearer(curator),
            "another scope": bearer(operator, scopes=[Scope.CHAT]),
            "an operator": bearer(operator),
        }

        statuses = {
            who: Client().get("/api/metrics", headers=headers).status_code for who, headers in told.items()
        }
        assert statuses == {"a member": 403, "a curator": 403, "another scope": 403, "an operator": 200}
        assert Client().get("/api/metrics").status_code == 401

    def test_an_operator_of_a_moment_ago_is_refused(self, operator, client):
        sign_in_client(client, operator)
        assert client.get("/api/metrics").status_code == 200
        Group.objects.get(name=roles.OPERATOR).user_set.remove(operator)

        assert client.get("/api/metrics").status_code == 403

    def test_percentiles_lie_within_their_bucket(self):
        buckets = [(0.1, 50.0), (0.2, 90.0), (1.0, 100.0), (float("inf"), 100.0)]

        assert quantile(buckets, 0.5, 50.0) == 0.1
        assert quantile(buckets, 0.7, 50.0) == pytest.approx(0.15)
        assert quantile(buckets, 0.95, 50.0) == pytest.approx(0.6)
        assert quantile([(1.0, 0.0), (float("inf"), 4.0)], 0.5, 8.0) == 1.0
        assert quantile([(1.0, 0.0), (float("inf"), 0.0)], 0.5, 0.0) is None

    def test_no_percentile_is_more_than_the_sum_leaves_for_it(self):
        two = [(1.0, 0.0), (2.5, 1.0), (30.0, 1.0), (60.0, 2.0), (float("inf"), 2.0)]
        assert quantile(two, 0.5, 31.5) == pytest.approx(1.5)
        assert quantile(two, 0.95, 31.5) == quantile(two, 0.99, 31.5) == pytest.approx(30.5)
        # A hundred values of 31 seconds: half of them are not below the median.
        alike = [(30.0, 0.0), (60.0, 100.0), (float("inf"), 100.0)]
        assert quantile(alike, 0.5, 3100.0) == pytest.approx(30 + 100 / 51)
        # The sum and the counts of other processes are not read at one moment.
        assert quantile(alike, 0.5, 2900.0) == 30.0

    def test_percentiles_are_capped_by_the_sum_of_the_answers(self):
        metric = HistogramMetricFamily("llmsite_generation_duration_seconds", "", labels=["model"])
        metric.add_metric(["a"], _ends(0, 1, 1, 1, 1), sum_value=1.3)
        metric.add_metric(["b"], _ends(0, 0, 0, 1, 1), sum_value=30.2)

        told = summarize([metric])

        assert told["total_latency"] == 31.5
        assert told["latency"]["p99"] <= 31.5
