"""The gate: every request is counted, its caller is found, and a caller known a moment ago costs nothing."""

import asyncio

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.test.utils import CaptureQueriesContext

from accounts.middleware import GateMiddleware
from accounts.models import ApiKey, Session
from accounts.recent import KEEP_SECONDS, RecentCredentials
from conftest import bearer, sign_in_client
from inference.tests.doors import sse
from llmsite.core.rates import Rate

pytestmark = pytest.mark.django_db

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def numbers(answer):
    return [int(answer[name]) for name in HEADERS]


class TestCounting:
    def test_every_kind_of_answer_says_how_many_are_left(self, client, alice, models):
        anonymous = [
            client.get(path)
            for path in ("/login/", "/chat/", "/nothing", "/api/nothing", "/api/models", "/admin/", "/login")
        ]
        headers = bearer(alice)
        known = [client.get(path, headers=headers) for path in ("/api/models", "/api/nothing")]
        refused = client.get("/api/models", headers={"Authorization": "Bearer nonsense"})

        for answer in (*anonymous, refused):
            assert numbers(answer)[0] == 600
        for answer in known:
            assert numbers(answer)[0] == 60
        assert [numbers(answer)[1] for answer in known] == [59, 58]
        assert {answer.status_code for answer in anonymous} == {200, 301, 302, 401, 404}

    @pytest.mark.django_db(transaction=True)
    async def test_a_stream_says_so_too(self, alice_headers, models):
        answer = await AsyncClient().post(
            "/api/predict/stream", {"prompt": "hi"}, content_type="application/json", headers=alice_headers
        )
        assert numbers(answer)[:2] == [60, 59]
        assert [event async for event in sse(answer)]

    def test_a_user_is_refused_after_the_limit_whichever_door_it_takes(self, client, alice, settings, models):
        settings.RATE_LIMIT = Rate(3, 60)
        headers = {"Authorization": f"Bearer {sign_in_client(client, alice).access}"}

        assert client.get("/chat/").status_code == 200
        assert Client().get("/api/models", headers=headers).status_code == 200
        assert client.get("/api/conversations").status_code == 200
        program, page = Client().get("/api/models", headers=headers), client.get("/chat/")

        assert program.status_code == page.status_code == 429
        assert program.json()["error"]["code"] == "rate_limited"
        assert "<!doctype html>" in page.content.decode().lower()
        for answer in (program, page):
            assert numbers(answer)[:2] == [3, 0]
            assert 58 <= int(answer["Retry-After"]) <= 60
            assert "default-src 'none'" in answer["Content-Security-Policy"]

    def test_a_refusal_speaks_the_language_of_its_reader(self, client, settings):
        settings.RATE_LIMIT_ADDRESS = Rate(1, 60)
        client.get("/login/")

        page = client.get("/login/", headers={"Accept-Language": "es"}).content.decode()

        assert '<html lang="es"' in page

    def test_an_address_is_refused_before_anybody_asks_who_it_is(self, client, alice, settings):
        settings.RATE_LIMIT_ADDRESS = Rate(2, 60)
        headers = bearer(alice)
        for _ in range(2):
            client.get("/api/auth/me", headers={"Authorization": "Bearer " + "x" * 40})

        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = client.get("/api/auth/me", headers=headers)

        assert answer.status_code == 429
        assert len(queries) == 0

    def test_a_key_with_a_limit_counts_with_the_others_too(self, client, alice, settings, models):
        settings.RATE_LIMIT = Rate(4, 60)
        narrow, wide = bearer(alice, rate_limit="2/m"), bearer(alice)

        with_narrow = [client.get("/api/models", headers=narrow) for _ in range(3)]
        with_wide = [client.get("/api/models", headers=wide).status_code for _ in range(3)]

        assert [answer.status_code for answer in with_narrow] == [200, 200, 429]
        assert numbers(with_narrow[2])[0] == 2
        # The refused one was counted nowhere.
        assert with_wide == [200, 200, 429]

    def test_a_program_that_asks_too_much_does_not_shut_its_owner_out(self, client, alice, settings, models):
        settings.RATE_LIMIT = Rate(2, 60)
        sign_in_client(client, alice)
        headers = bearer(alice)

        asked = [Client().get("/api/models", headers=headers).status_code for _ in range(3)]

        assert asked == [200, 200, 429]
        assert client.get("/account/").status_code == 200
        assert client.post(f"/account/keys/{ApiKey.objects.get().pk}/revoke/").status_code == 302

    def test_a_user_may_have_a_limit_of_their_own(self, client, alice, models):
        alice.rate_limit = "1/m"
        alice.save()
        headers = bearer(alice)

        assert [client.get("/api/models", headers=headers).status_code for _ in range(2)] == [200, 429]

    def test_who_watches_the_site_is_never_refused(self, client, settings):
        settings.RATE_LIMIT_ADDRESS = Rate(1, 60)

        assert {client.get("/health/live").status_code for _ in range(5)} == {200}

    @pytest.mark.parametrize("query", ["api_key=x", "a=b&access_token=y", "token=z", "q=llm_abcdefgh_xyz"])
    def test_a_secret_in_the_address_is_refused(self, query, client, alice, models):
        for headers in ({}, bearer(alice)):
            answer = client.get(f"/api/models?{query}", headers=headers)

            assert answer.status_code == 400
            assert "Authorization" in answer.json()["error"]["message"]
            assert numbers(answer)

    @pytest.mark.parametrize("refused", ["/api/models?api_key=x", "/api/models"])
    def test_what_is_refused_is_counted(self, refused, client, settings):
        settings.RATE_LIMIT_ADDRESS = Rate(2, 60)
        headers = {"Authorization": "nonsense"}

        answers = [client.get(refused, headers=headers) for _ in range(3)]

        assert answers[2].status_code == 429
        assert [numbers(answer)[1] for answer in answers] == [1, 0, 0]


class TestWarm:
    """A caller who was here a moment ago."""

    @pytest.fixture
    def request_of_alice(self, alice):
        headers = bearer(alice)
        return lambda: AsyncRequestFactory().get("/api/models", headers=headers)

    @pytest.mark.django_db(transaction=True)
    async def test_it_costs_no_thread_and_no_query(self, request_of_alice, monkeypatch):
        async def view(request):
            assert request.credential.user.username == "alice"
            return HttpResponse()

        gate = GateMiddleware(view)
        await gate(request_of_alice())
        hops = []
        hop = SyncToAsync.__call__

        async def counted(self, *args, **kwargs):
            hops.append(self.func)
            return await hop(self, *args, **kwargs)

        monkeypatch.setattr(SyncToAsync, "__call__", counted)
        answers = [await gate(request_of_alice()) for _ in range(5)]

        assert hops == []
        assert [int(answer["X-RateLimit-Remaining"]) for answer in answers] == [58, 57, 56, 55, 54]

    def test_what_is_revoked_here_is_refused_at_once(self, client, alice, models):
        headers = bearer(alice)
        assert client.get("/api/models", headers=headers).status_code == 200

        ApiKey.objects.get().revoke()

        assert client.get("/api/models", headers=headers).status_code == 401

    def test_an_ended_sign_in_is_refused_at_once(self, client, alice, models):
        sign_in_client(client, alice)
        assert client.get("/api/models").status_code == 200

        Session.objects.all().revoke()

        assert client.get("/api/models").status_code == 401

    def test_what_another_process_revoked_is_believed_for_seconds_only(self):
        now = 100.0
        recent = RecentCredentials(clock=lambda: now)
        recent.keep("token", "alice", generation=recent.generation)
        assert recent.find("token") == "alice"

        now += KEEP_SECONDS

        assert recent.find("token") is None
        assert KEEP_SECONDS < 5

    def test_a_check_that_overlaps_a_revocation_is_not_believed(self):
        recent = RecentCredentials()
        generation = recent.generation
        recent.forget()

        recent.keep("token", "alice", generation=generation)

        assert recent.find("token") is None

    def test_a_token_is_not_believed_beyond_its_end(self):
        now = 100.0
        recent = RecentCredentials(clock=lambda: now)
        recent.keep("token", "alice", generation=recent.generation, until=0.5)
        recent.keep("ended", "alice", generation=recent.generation, until=-1.0)

        now += 0.5

        assert recent.find("token") is None
        assert recent.find("ended") is None

    def test_its_memory_is_bounded(self, monkeypatch):
        monkeypatch.setattr("accounts.recent.MOST", 3)
        recent = RecentCredentials()
        for token in "abcde":
            recent.keep(token, token, generation=recent.generation)

        assert [recent.find(token) for token in "abcde"] == [None, None, "c", "d", "e"]


def test_a_page_reads_its_sign_in_anew_each_time(client, alice):
    sign_in_client(client, alice)
    assert client.get("/chat/").status_code == 200

    # As another process would do it: nothing in this one is told.
    type(alice).objects.filter(pk=alice.pk).update(is_active=False)

    assert client.get("/chat/").status_code == 302


@pytest.mark.django_db(transaction=True)
async def test_callers_at_the_same_moment_are_told_apart(alice, bob, models):
    headers = [await sync_to_async(bearer)(user) for user in (alice, bob)] * 10

    answers = await asyncio.gather(*(AsyncClient().get("/api/auth/me", headers=one) for one in headers))

    assert [answer.json()["username"] for answer in answers] == ["alice", "bob"] * 10
