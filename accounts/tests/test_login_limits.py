"""Guessing passwords: refused after so many tries, before a hash is computed, from wherever they come."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.contrib.auth.hashers import MD5PasswordHasher
from django.test import Client

from accounts.keys import create_key
from accounts.models import AuditEvent, Session
from accounts.models.audit import AuditKind
from accounts.tests.two_processes import bearer, cookies, send
from accounts.tokens import sign_in
from conftest import PASSWORD, sign_in_client
from llmsite.core.rates import Rate
from llmsite.testing.site import Site

pytestmark = pytest.mark.django_db

DOORS = ["/login/", "/api/auth/login", "/api/auth/token"]
hashes: list[str] = []


class CountingHasher(MD5PasswordHasher):
    """Notes each hash that is computed."""

    algorithm = "counting"

    def encode(self, password, salt):
        hashes.append(password)
        return super().encode(password, salt)


@pytest.fixture(autouse=True)
def _counted(settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    settings.LOGIN_RATE_LIMIT = Rate(10, 60)
    hashes.clear()


def try_at(door, username, password, address="192.0.2.1"):
    kind = {"content_type": "application/json"} if door.startswith("/api/") else {}
    return Client(REMOTE_ADDR=address).post(door, {"username": username, "password": password}, **kind)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_the_eleventh_try_for_a_name_is_refused_without_a_hash(door, username, alice):
    hashes.clear()
    answers = [try_at(door, username, f"guess {turn}", f"192.0.2.{turn}") for turn in range(14)]

    assert [answer.status_code for answer in answers[:10]] == [400 if door == "/login/" else 401] * 10
    assert len(hashes) == 10
    for answer in answers[10:]:
        assert answer.status_code == 429
        assert 0 < int(answer["Retry-After"]) <= 60
    assert AuditEvent.objects.filter(kind=AuditKind.SIGN_IN_FAILED).count() == 10


@pytest.mark.parametrize("door", DOORS)
def test_the_eleventh_try_from_an_address_is_refused_whichever_names(door, alice):
    hashes.clear()
    answers = [try_at(door, f"user{turn}", "guess") for turn in range(12)]

    assert [answer.status_code for answer in answers[10:]] == [429, 429]
    assert len(hashes) == 10


def test_doors_count_together(alice):
    hashes.clear()
    tries = [
        try_at(DOORS[turn % 3], ("alice", "ALICE")[turn % 2], "guess", f"192.0.2.{turn}")
        for turn in range(12)
    ]

    assert [answer.status_code for answer in tries[10:]] == [429, 429]
    assert len(hashes) == 10


def test_even_the_right_password_waits_and_a_session_does_not(client, alice):
    sign_in_client(client, alice)
    for turn in range(11):
        try_at("/api/auth/token", "alice", "guess", f"192.0.2.{turn}")

    assert try_at("/api/auth/token", "alice", PASSWORD, "192.0.2.99").status_code == 429
    assert client.get("/account/").status_code == 200
    assert client.get("/api/auth/me").status_code == 200
    assert try_at("/api/auth/token", "bob", PASSWORD, "192.0.2.99").status_code == 401
    assert Session.objects.count() == 1


@pytest.fixture(scope="module")
def sites(django_db_setup, django_db_blocker):
    limits = {"LOGIN_RATE_LIMIT": "10/m", "RATE_LIMIT": "50/m"}
    with django_db_blocker.unblock(), ExitStack() as stack:
        # Without Redis there is one process.
        count = 4 if settings.REDIS_URL else 1
        yield [stack.enter_context(Site(TRUSTED_PROXIES="127.0.0.1", **limits)) for _ in range(count)]


class TestFourProcesses:
    """Behind a proxy, with a new address for each try."""

    @pytest.fixture(autouse=True)
    def _counted(self):
        """Not here: the processes compute real hashes."""

    @pytest.fixture(autouse=True)
    def _fast_passwords(self):
        """Nor here."""

    @pytest.mark.django_db(transaction=True)
    def test_they_count_tries_together(self, alice, sites):
        pair = sign_in(alice)

        def attempt(turn, password="guess"):
            came_from = {"X-Forwarded-For": f"198.51.100.{turn}"}
            body = {"username": "alice", "password": password}
            return send(sites[turn % len(sites)], "POST", "/api/auth/token", came_from, body)

        answers = [attempt(turn) for turn in range(11)]
        right = [attempt(turn, PASSWORD) for turn in range(11, 15)]
        inside = [send(site, "GET", "/api/auth/me", bearer(pair.access)).status for site in sites]
        pages = [send(site, "GET", "/account/", cookies(pair)).status for site in sites]

        assert [answer.status for answer in answers] == [401] * 10 + [429]
        for refused in (answers[10], *right):
            assert (refused.status, refused.json()["error"]["code"]) == (429, "rate_limited")
            assert 0 < int(refused.headers["Retry-After"]) <= 60
        assert set(inside) == set(pages) == {200}

    @pytest.mark.django_db(transaction=True)
    def test_they_count_requests_together(self, alice, sites):
        """The last requests of a limit, from many clients at once: exactly so many pass."""
        _, key = create_key(alice, "test")

        def ask(turn):
            return send(sites[turn % len(sites)], "GET", "/api/auth/me", bearer(key))

        with ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(ask, range(200)))

        assert Counter(answer.status for answer in answers) == {200: 50, 429: 150}
        assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"50"}
        left = sorted(
            int(answer.headers["X-RateLimit-Remaining"]) for answer in answers if answer.status == 200
        )
        assert left == list(range(50))
        assert all(0 < int(answer.headers["Retry-After"]) <= 60 for answer in answers if answer.status == 429)
