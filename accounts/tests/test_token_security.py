"""Tokens that are not ours, that come back or stand for something else; and the cookies they ride in."""

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.cookies import SimpleCookie
from unittest.mock import patch
from uuid import uuid4

import jwt
import pytest
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.test import AsyncClient, Client
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from accounts.erasure import erase
from accounts.models import AuditEvent, RefreshToken, Session
from accounts.models.audit import AuditKind
from accounts.recent import recent_credentials
from accounts.tests.two_processes import bearer, send
from accounts.tokens import REUSE_GRACE, rotate, sign_in
from conftest import PASSWORD, sign_in_client
from conftest import bearer as key_of
from llmsite.core.errors import NotSignedIn
from llmsite.testing.site import Site

pytestmark = pytest.mark.django_db


# --- Forged tokens ----------------------------------------------------------------------------------


def claims_of(user):
    """What a good access token of a new sign-in says."""
    token = AccessToken.for_user(user)
    now = {"aud": settings.SIMPLE_JWT["AUDIENCE"], "iss": settings.SIMPLE_JWT["ISSUER"]}
    return {**token.payload, "sid": str(Session.objects.create(user=user).pk), **now}


def signed(claims, *, key=None, algorithm="HS256", **headers):
    return jwt.encode(claims, key or settings.SIMPLE_JWT["SIGNING_KEY"], algorithm=algorithm, headers=headers)


def statuses(token):
    """How each door answers the token: as a bearer, as a cookie of a script, as a cookie on a page."""
    cookie = Client()
    cookie.cookies[settings.ACCESS_COOKIE] = token
    return [
        Client().get("/api/auth/me", headers=bearer(token)).status_code,
        cookie.get("/api/auth/me").status_code,
        cookie.get("/account/").status_code,
    ]


LET_IN, REFUSED = [200, 200, 200], [401, 401, 302]

CLAIMS = {
    "for another audience": {"aud": "other"},
    "for several audiences": {"aud": ["other", "another"]},
    "of another environment": {"iss": "llmsite:production"},
    "of another site": {"iss": "https://evil.example"},
    "that has expired": {"exp": 1_700_000_000},
    "that ends never": {"exp": None},
    "that is not valid yet": {"nbf": 4_000_000_000},
    "of another kind": {"token_type": "refresh"},
    "of no sign-in": {"sid": str(uuid4())},
    "of no sign-in at all": {"sid": None},
    "with nonsense for a sign-in": {"sid": "' OR 1=1 --"},
    "with a list for a sign-in": {"sid": ["x"]},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
def test_a_token_says_who_made_it_for_whom_and_until_when(claims, alice):
    good = claims_of(alice)
    assert statuses(signed(good)) == LET_IN

    assert statuses(signed(good | claims)) == REFUSED


@pytest.mark.parametrize("algorithm", ["HS512", "HS384", "RS256", "PS256"])
def test_a_token_is_signed_in_one_way_only(algorithm, alice):
    key = settings.SIMPLE_JWT["SIGNING_KEY"]
    if not algorithm.startswith("HS"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    assert statuses(signed(claims_of(alice), key=key, algorithm=algorithm)) == REFUSED


def test_a_token_without_a_signature_opens_nothing(alice):
    header, payload, signature = signed(claims_of(alice)).split(".")
    unsigned = jwt.encode(claims_of(alice), None, algorithm="none")

    for token in (
        unsigned,
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature[:-4]}AAAA",
    ):
        assert statuses(token) == REFUSED


def test_a_token_signed_with_another_key_opens_nothing(alice):
    keys = (settings.SECRET_KEY, settings.ROTATION_KEY.hex(), secrets.token_hex(32))

    for key in keys:
        assert statuses(signed(claims_of(alice), key=key)) == REFUSED
    own = signed(claims_of(alice), key="x" * 64, jwk={"kty": "oct", "k": "eHh4"}, kid="/dev/null")
    assert statuses(own) == REFUSED


def test_no_token_stands_for_another_kind(client, alice):
    pair, key = sign_in(alice), key_of(alice)["Authorization"].removeprefix("Bearer ")

    assert statuses(pair.refresh) == REFUSED
    for token in (pair.access, key, "", "x" * 200):
        answer = client.post("/api/auth/refresh", {"refresh": token}, content_type="application/json")
        assert answer.status_code in (400, 401), token
    assert rotate(pair.refresh)


def test_a_token_says_nothing_about_its_holder_but_the_id(alice):
    claims = jwt.decode(sign_in(alice).access, options={"verify_signature": False})

    assert set(claims) == {"token_type", "exp", "iat", "jti", "sub", "sid", "iss", "aud"}
    assert timedelta(minutes=5) <= timedelta(seconds=claims["exp"] - claims["iat"]) <= timedelta(minutes=10)


# --- Refresh tokens that come back ------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("parallel", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_parallel_refreshes_in_two_processes_make_one_successor(parallel, alice):
    with Site(RATE_LIMIT_ADDRESS="100000/m") as one, Site(RATE_LIMIT_ADDRESS="100000/m") as two:
        for _ in range(20):
            first = sign_in(alice).refresh

            def refresh(turn, token=first):
                return send((one, two)[turn % 2], "POST", "/api/auth/refresh", {}, {"refresh": token})

            with ThreadPoolExecutor(parallel) as pool:
                answers = list(pool.map(refresh, range(parallel)))

            assert {answer.status for answer in answers} == {200}
            assert len({answer.json()["refresh"] for answer in answers}) == 1
            session = Session.objects.latest("created_at")
            assert session.revoked_at is None
            assert session.refresh_tokens.filter(used_at=None).count() == 1
            assert session.refresh_tokens.count() == 2


def test_a_replay_ends_the_sign_in_is_recorded_and_ends_no_other(client, alice, monkeypatch):
    stolen, other = sign_in(alice), sign_in(alice)
    newest = rotate(stolen.refresh)
    monkeypatch.setattr("accounts.tokens.REUSE_GRACE", timedelta(seconds=-1))

    replayed = client.post("/api/auth/refresh", {"refresh": stolen.refresh}, content_type="application/json")

    assert replayed.status_code == 401
    for access in (stolen.access, newest.access):
        assert client.get("/api/auth/me", headers=bearer(access)).status_code == 401
    with pytest.raises(NotSignedIn):
        rotate(newest.refresh)
    event = AuditEvent.objects.get(kind=AuditKind.TOKEN_REPLAYED)
    assert (event.subject, event.actor) == (alice.pseudonym, None)
    assert client.get("/api/auth/me", headers=bearer(other.access)).status_code == 200
    assert rotate(other.refresh)
    assert timedelta(seconds=1) <= REUSE_GRACE <= timedelta(seconds=10)


def test_an_old_token_after_its_successor_was_used_is_a_replay_within_the_grace_too(alice):
    first = sign_in(alice).refresh
    rotate(rotate(first).refresh)

    with pytest.raises(NotSignedIn):
        rotate(first)

    assert Session.objects.get().revoked_at is not None


@pytest.mark.parametrize("why", ["expired", "disabled", "logged out"])
def test_a_token_that_has_merely_ended_is_no_replay(why, alice):
    """Who comes back after a holiday is no thief, and nothing is written for a token that has ended."""
    token = sign_in(alice).refresh
    if why == "expired":
        RefreshToken.objects.update(expires_at=timezone.now())
    elif why == "disabled":
        type(alice).objects.update(is_active=False)
    else:
        Session.objects.all().revoke()

    with pytest.raises(NotSignedIn):
        rotate(token)

    assert RefreshToken.objects.get().used_at is None
    assert not AuditEvent.objects.filter(kind=AuditKind.TOKEN_REPLAYED).exists()


def test_the_token_of_somebody_who_is_gone_is_refused(client, alice):
    pair = sign_in(alice)
    alice.delete()

    answer = client.post("/api/auth/refresh", {"refresh": pair.refresh}, content_type="application/json")

    assert answer.status_code == 401
    assert statuses(pair.access) == REFUSED


@pytest.mark.django_db(transaction=True)
async def test_who_is_gone_but_believed_for_a_moment_gets_no_server_error(alice, models):
    """As where another process erases somebody: this one is not told."""
    headers, client = await sync_to_async(key_of)(alice), AsyncClient(raise_request_exception=False)
    assert (await client.get("/api/auth/me", headers=headers)).status_code == 200
    with patch.object(recent_credentials, "forget"):
        await sync_to_async(erase)(alice, actor=None)
    assert recent_credentials.find(headers["Authorization"].removeprefix("Bearer "))

    for path, body in (
        ("/api/conversations", {}),
        ("/api/predict", {"prompt": "Hello?"}),
        ("/api/predict/stream", {"prompt": "Hello?"}),
    ):
        answer = await client.post(path, body, content_type="application/json", headers=headers)
        assert answer.status_code == 401, path


# --- Cookies ----------------------------------------------------------------------------------------


def attributes(morsel):
    changing = ("expires", "max-age")
    return {name: value for name, value in morsel.items() if name not in changing}


@pytest.mark.parametrize("door", ["page", "script"])
def test_cookies_are_cleared_as_they_were_set(door, alice):
    login, logout = ("/login/", "/logout/") if door == "page" else ("/api/auth/login", "/api/auth/logout")
    kind = {} if door == "page" else {"content_type": "application/json"}
    client = Client()

    came = client.post(login, {"username": "alice", "password": PASSWORD}, **kind).cookies
    went = client.post(logout, {}, **kind).cookies

    for name in (settings.ACCESS_COOKIE, settings.REFRESH_COOKIE):
        assert attributes(came[name]) == attributes(went[name])
        assert (went[name].value, went[name]["max-age"]) == ("", 0)
    assert Session.objects.get().revoked_at is not None


@pytest.mark.parametrize("page", ["/chat/", "/account/", "/account/password/"])
def test_no_page_shows_a_token(page, client, alice, models):
    pair = sign_in_client(client, alice)

    shown = client.get(page).content.decode()

    assert alice.username in shown
    assert not [token for token in (pair.access, pair.refresh) if token in shown]


class TestInProduction:
    """A real process behind a proxy that speaks TLS."""

    @pytest.fixture(autouse=True)
    def _fast_passwords(self):
        """Not here: the process checks real hashes."""

    @pytest.mark.django_db(transaction=True)
    def test_cookies_are_bound_to_the_host_and_to_tls(self, alice):
        environment = {
            "ENVIRONMENT": "production",
            "ALLOWED_HOSTS": "127.0.0.1",
            "TRUSTED_PROXIES": "127.0.0.1",
        }
        with Site(**environment) as site:
            tls = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
            asked = send(site, "GET", "/api/auth/csrf", tls)
            csrf = cookies_in(asked)["__Host-csrf"].value
            own = tls | {
                "Origin": site.url.replace("http", "https"),
                "X-CSRFToken": asked.json()["csrf_token"],
            }
            body = {"username": "alice", "password": PASSWORD}
            came = send(site, "POST", "/api/auth/login", own | {"Cookie": f"__Host-csrf={csrf}"}, body)
            jar = {"__Host-csrf": csrf, **{name: one.value for name, one in cookies_in(came).items()}}
            held = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
            renewed = send(site, "POST", "/api/auth/refresh", own | held, {})
            went = send(site, "POST", "/api/auth/logout", own | held, {})
            plain = send(site, "GET", "/api/auth/me", {})
            foreign = send(site, "POST", "/api/auth/login", own | held | {"Origin": site.url}, body)

        assert (came.status, renewed.status, went.status) == (200, 204, 204)
        assert (plain.status, plain.headers["Location"][:8]) == (301, "https://")
        assert foreign.status == 403
        for answer in (asked, came, renewed, went):
            assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
            for name, cookie in cookies_in(answer).items():
                assert name.startswith("__Host-")
                assert (cookie["secure"], cookie["httponly"], cookie["path"]) == (True, True, "/")
                assert (cookie["samesite"], cookie["domain"]) == ("Lax", "")
                assert len(cookie.OutputString()) < 4096
        for answer in (came, renewed, went):
            assert {"__Host-at", "__Host-rt"} <= set(cookies_in(answer))
            assert not [one for one in cookies_in(answer).values() if one.value and one.value in answer.text]


def cookies_in(answer):
    jar = SimpleCookie()
    for line in answer.headers.get_all("Set-Cookie") or ():
        jar.load(line)
    return jar


def test_only_digests_of_refresh_tokens_are_stored(alice):
    pair = sign_in(alice)
    successor = rotate(pair.refresh)

    assert set(RefreshToken.objects.values_list("digest", flat=True)) == {
        hashlib.sha256(token.encode()).hexdigest() for token in (pair.refresh, successor.refresh)
    }
