"""Pages elsewhere: those of named origins may call the API with a key; no other, and nobody with a cookie."""

import asyncio

import pytest
from asgiref.sync import SyncToAsync
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, Client

from conftest import sign_in_client
from inference.tests.conftest import settled  # noqa: F401
from llmsite.core.env import Environment
from llmsite.handler import get_application

pytestmark = pytest.mark.django_db

NAMED, OTHER = "https://app.example.org", "https://evil.example"
STRANGERS = (
    OTHER,
    "null",
    "*",
    "http://app.example.org",
    "https://app.example.org:8443",
    "https://app.example.org.evil.example",
    "https://sub.app.example.org",
)
ADDRESSES = ("/api/models", "/api/auth/token", "/v1/models", "/v1/messages", "/v1/nothing", "/api/nothing")


@pytest.fixture(autouse=True)
def _named(settings):
    settings.CORS_ALLOWED_ORIGINS = [NAMED]


def preflight(path, origin=NAMED, *, method="POST", headers="authorization, content-type", **more):
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return Client().options(path, headers={"Origin": origin, **asked, **more})


def leave_of(answer):
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_named_origin_is_given_leave(path):
    answer = preflight(path)

    assert answer.status_code == 204
    assert leave_of(answer) == {
        "Access-Control-Allow-Origin": NAMED,
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": "authorization, content-type",
        "Access-Control-Max-Age": "600",
    }
    assert "Origin" in answer["Vary"]


def test_every_header_of_the_clients_is_taken_and_no_other():
    wanted = [
        *("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID", "Last-Event-ID", "x-api-key"),
        *("X-Stainless-Retry-Count", "x-stainless-os", "anthropic-version", "openai-organization"),
        *("anthropic-dangerous-direct-browser-access", "accept", "cache-control"),
    ]
    answer = preflight("/v1/messages", headers=", ".join([*wanted, "X-CSRFToken", "Cookie", "X-Other", "*"]))

    taken = answer["Access-Control-Allow-Headers"].split(", ")
    assert taken == [name.lower() for name in wanted]


@pytest.mark.parametrize("origin", STRANGERS)
def test_no_other_origin_is_told_anything(origin, alice_headers):
    for answer in (
        preflight("/v1/models", origin),
        Client().get("/api/auth/me", headers={"Origin": origin, **alice_headers}),
        Client().get("/v1/models", headers={"Origin": origin}),
    ):
        assert leave_of(answer) == {}
        # So that no cache tells one origin what another one was told.
        assert "Origin" in answer["Vary"]


@pytest.mark.parametrize("path", ["/login/", "/chat/", "/health/live", "/static/css/base.css", "/nothing"])
def test_only_the_api_is_opened(path):
    assert leave_of(preflight(path)) == {}
    assert leave_of(Client().get(path, headers={"Origin": NAMED})) == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("settled")
async def test_a_page_reads_the_answer_and_the_headers_of_the_site(alice_headers, models):
    body = {"prompt": "Hello?", "model": "echo"}
    headers = {"Origin": NAMED, **alice_headers}
    answer = await AsyncClient().post("/api/predict", body, content_type="application/json", headers=headers)

    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == NAMED
    assert "Access-Control-Allow-Credentials" not in answer
    shown = {name.lower() for name in answer["Access-Control-Expose-Headers"].split(", ")}
    own = {name.lower() for name in answer.headers if name.lower().startswith(("x-ratelimit", "x-llmsite"))}
    assert shown == {"x-request-id", *own}
    assert {"x-llmsite-cache", "x-llmsite-model", "x-ratelimit-remaining"} <= own


def test_a_page_reads_a_refusal_of_the_gate_too(settings):
    settings.RATE_LIMIT_ADDRESS = type(settings.RATE_LIMIT_ADDRESS).parse("1/h")
    assert preflight("/v1/models").status_code == 204
    # The question counts like any other request of its address, before anybody is asked who they are.
    answer = Client().get("/v1/models", headers={"Origin": NAMED})

    assert answer.status_code == 429
    assert answer["Access-Control-Allow-Origin"] == NAMED
    assert "retry-after" in answer["Access-Control-Expose-Headers"].lower()
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert preflight("/v1/models").status_code == 429


@pytest.mark.parametrize("origin", [NAMED, OTHER, "null"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_cookie_does_not_count_for_another_origin(method, origin, alice):
    browser = Client(enforce_csrf_checks=True)
    token = browser.get("/api/auth/csrf").json()["csrf_token"]
    sign_in_client(browser, alice)
    given = {} if method == "GET" else {"data": {}, "content_type": "application/json"}
    headers = {"Origin": origin, "X-CSRFToken": token}

    answer = getattr(browser, method.lower())("/api/conversations", headers=headers, **given)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "csrf_failed"
    assert "Access-Control-Allow-Credentials" not in answer
    assert browser.get("/api/conversations", headers={"Origin": "http://testserver"}).status_code == 200


def test_a_page_elsewhere_signs_in_with_tokens_of_its_own(alice):
    body = {"username": "alice", "password": "correct horse battery"}
    headers = {"Origin": NAMED}
    pair = Client().post("/api/auth/token", body, content_type="application/json", headers=headers)
    assert pair.status_code == 200
    assert pair["Access-Control-Allow-Origin"] == NAMED

    headers["Authorization"] = f"Bearer {pair.json()['access']}"
    assert Client().get("/api/auth/me", headers=headers).json()["username"] == "alice"


async def ask(site, method, headers):
    """`/v1/models`, from the ASGI application `site`: its status and headers."""
    sent, messages = [], [{"type": "http.request", "body": b"", "more_body": False}]
    never = asyncio.get_running_loop().create_future()

    async def receive():
        return messages.pop() if messages else await never

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": "/v1/models",
        "query_string": b"",
        "headers": [
            (name.lower().encode(), text.encode()) for name, text in {**headers, "Host": "127.0.0.1"}.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await site(scope, receive, send)
    return sent[0]["status"], {name.decode().lower(): text.decode() for name, text in sent[0]["headers"]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("settled")
async def test_it_costs_no_thread(monkeypatch, alice_headers, models):
    site = get_application()  # One that has named an origin when it began.
    await ask(site, "GET", alice_headers)  # A key is read from the database once.
    hops = []
    original = SyncToAsync.__call__

    def counted(self, *args, **kwargs):
        hops.append(self.func)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)

    status, leave = await ask(site, "OPTIONS", {"Origin": NAMED, "Access-Control-Request-Method": "GET"})
    assert (status, leave["access-control-allow-origin"]) == (204, NAMED)
    status, leave = await ask(site, "GET", {**alice_headers, "Origin": NAMED})
    assert (status, leave["access-control-allow-origin"]) == (200, NAMED)

    assert hops == []


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "null",
        "app.example.org",
        "https://*.example.org",
        "https://app.example.org/path",
        "https://user@app.example.org",
        "ftp://app.example.org",
        "https://app.example.org,*",
    ],
)
def test_only_full_origins_are_taken(value, monkeypatch):
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", value)
    with pytest.raises(ImproperlyConfigured, match="CORS_ALLOWED_ORIGINS must be a list of origins"):
        Environment(None).origins("CORS_ALLOWED_ORIGINS", [], example=NAMED)


def test_origins_are_compared_as_browsers_write_them(monkeypatch):
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", "HTTPS://App.example.org:443/, http://localhost:5173")
    origins = Environment(None).origins("CORS_ALLOWED_ORIGINS", [], example=NAMED)
    assert origins == [NAMED, "http://localhost:5173"]


def test_nobody_is_named_by_default():
    assert Environment(None).origins("CORS_ALLOWED_ORIGINS_UNSET", [], example=NAMED) == []
