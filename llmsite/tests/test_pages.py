"""Headers, errors and health: what every answer of the site has in common."""

import pytest
from django.test import AsyncClient, Client

from conftest import sign_in_client
from inference.live import live_answers
from inference.models import ChatModelConfig
from llmsite.core.rates import Rate

pytestmark = pytest.mark.django_db

ANSWERS = {
    "a page": ("/chat/", 200),
    "an open page": ("/login/", 302),
    "an answer of the API": ("/api/models", 200),
    "a refused method": ("/api/auth/login", 405),
    "a missing object": ("/api/nothing", 404),
    "a missing page": ("/nothing", 404),
    "a page without its slash": ("/chat", 301),
    "the admin": ("/admin/", 302),
    "health": ("/health/live", 200),
    "a script's texts": ("/jsi18n/", 200),
    "a secret in the address": ("/api/models?api_key=x", 400),
    "a foreign host": ("/chat/", 400),
    "too many requests": ("/api/models", 429),
    "too many pages": ("/chat/", 429),
    "an error of ours": ("/api/models", 500),
    "an error of ours on a page": ("/chat/", 500),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_kind_of_answer_has_the_headers_that_protect_it(kind, alice, models, settings, monkeypatch):
    path, status = ANSWERS[kind]
    client = Client(raise_request_exception=False)
    sign_in_client(client, alice)
    if status == 429:
        settings.RATE_LIMIT = Rate(1, 60)
        client.get("/api/models")
    if status == 500:
        monkeypatch.setattr(ChatModelConfig.objects.__class__, "active", None)

    answer = client.get(path, headers={"Host": "evil.example"} if kind == "a foreign host" else {})

    assert answer.status_code == status
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for directive in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert directive in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert ("no-store" in answer["Cache-Control"]) is (kind != "a script's texts")
    assert answer["X-Request-ID"]
    assert "Traceback" not in answer.content.decode()


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "TRACK", "NONSENSE"])
def test_no_address_takes_an_unknown_method(method, staff, models):
    """Not even those that look at no method, as the admin's."""
    client = Client()
    sign_in_client(client, staff)

    for path in (
        "/",
        "/login/",
        "/chat/",
        "/admin/",
        "/i18n/setlang/",
        "/api/models",
        "/health/live",
        "/no/such/",
    ):
        answer = client.generic(method, path)

        assert answer.status_code == 405, path
        assert "GET" in answer["Allow"]


@pytest.mark.parametrize(
    ("sent", "kept"), [("trace-0123456789", True), ("x", False), ("a b" * 5, False), ("a" * 200, False)]
)
def test_a_well_formed_request_id_is_kept(sent, kept, client):
    assert (client.get("/health/live", headers={"X-Request-ID": sent})["X-Request-ID"] == sent) is kept


def test_a_foreign_host_is_refused(client):
    assert client.get("/login/", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("path", ["/login", "/chat", "/register", "/admin"])
def test_a_page_without_its_slash_leads_to_it(path, client):
    answer = client.get(path)

    assert (answer.status_code, answer["Location"]) == (301, f"{path}/")


def test_an_unknown_page_is_a_page(client):
    answer = client.get("/no/such/page/")

    assert answer.status_code == 404
    assert "<!doctype html>" in answer.content.decode().lower()


def test_a_browser_keeps_the_texts_of_scripts_for_each_language(alice, client, models):
    sign_in_client(client, alice)
    page = client.get("/chat/", headers={"Accept-Language": "es"}).content.decode()
    assert "/jsi18n/?language=es" in page
    assert client.get("/jsi18n/?language=es")["Cache-Control"] == "private, max-age=3600"


def test_pages_speak_spanish(client):
    page = client.get("/login/", headers={"Accept-Language": "es-MX,es;q=0.9"}).content.decode()

    assert '<html lang="es"' in page
    assert "Iniciar sesión" in page


def test_static_files_are_served_with_their_type(client):
    answer = client.get("/static/css/base.css")

    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/css")
    assert int(answer["Content-Length"]) == len(answer.content)
    assert client.get("/static/css/base.css", headers={"If-None-Match": answer["ETag"]}).status_code in (
        200,
        304,
    )
    assert client.get("/static/../manage.py").status_code == 404


async def test_it_is_alive_and_says_what_it_is_ready_for(settings, transactional_db):
    settings.MODEL_URL = "http://127.0.0.1:9"

    live = await AsyncClient().get("/health/live")
    ready = await AsyncClient().get("/health/ready")

    assert live.json()["status"] == "ok"
    parts = ready.json()["parts"]
    assert ready.status_code == 503
    assert {name for name, part in parts.items() if part["ok"]} == {
        "database",
        "migrations",
        "cache",
        "worker",
        "trainer",
        "disk",
    }
    assert "model process is not running" in parts["model"]["reason"]


async def test_a_process_that_is_about_to_stop_is_not_ready(transactional_db, monkeypatch):
    monkeypatch.setattr(live_answers, "is_draining", True)

    assert not (await AsyncClient().get("/health/ready")).json()["parts"]["web"]["ok"]


def test_who_is_signed_in_but_no_staff_is_not_sent_round_in_circles(client, alice):
    sign_in_client(client, alice)

    answer = client.get("/admin/", follow=True)

    assert answer.status_code == 403
