"""Headers, errors and health: what every answer of the site has in common."""

import pytest
from django.test import AsyncClient, Client
from django.urls import URLResolver, get_resolver

from conftest import sign_in_client
from inference.live import live_answers

pytestmark = pytest.mark.django_db

# What people and machines may reach without a sign-in. Each other address must refuse.
OPEN = {
    "login/",
    "register/",
    "logout/",
    "admin/login/",
    "admin/logout/",
    "api/auth/csrf",
    "api/auth/register",
    "api/auth/login",
    "api/auth/token",
    "api/auth/refresh",
    "api/auth/logout",
    "health/live",
    "health/ready",
    "i18n/setlang/",
    "jsi18n/",
}


def routes(resolver=None, prefix=""):
    for pattern in (resolver or get_resolver()).url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        else:
            yield route


def filled(route):
    return "/" + route.replace("<uuid:pk>", "00000000-0000-0000-0000-000000000001").replace("<int:pk>", "1")


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize(
    "route", sorted({route for route in routes() if not route.startswith("admin/")} - OPEN)
)
def test_everything_else_is_closed(route, method, models):
    answer = getattr(Client(), method)(filled(route), content_type="application/json")

    if answer.status_code == 302:
        assert answer["Location"].startswith("/login/")
    else:
        assert answer.status_code in (401, 403, 405)


def test_every_answer_has_the_headers_that_protect_it(client, alice, models):
    sign_in_client(client, alice)
    for path in ("/chat/", "/login/", "/api/models", "/api/nothing", "/nothing", "/health/live"):
        answer = client.get(path)

        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for directive in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert directive in policy
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "no-store" in answer["Cache-Control"]
        assert answer["X-Request-ID"]


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
    assert {name for name, part in parts.items() if part["ok"]} == {"database", "migrations", "cache"}
    assert "model process is not running" in parts["model"]["reason"]


async def test_a_process_that_is_about_to_stop_is_not_ready(transactional_db, monkeypatch):
    monkeypatch.setattr(live_answers, "is_draining", True)

    assert not (await AsyncClient().get("/health/ready")).json()["parts"]["web"]["ok"]
