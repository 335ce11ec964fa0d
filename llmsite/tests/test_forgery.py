"""What another site's page can make a browser send changes nothing: every address, verb and kind of body.

The browser sends its cookies with any request. Only a request with our CSRF token, from our own Origin and
of a kind that no plain form can send is taken for one of our pages'.
"""

import json

import pytest
from django.conf import settings
from django.test import Client

from conftest import PASSWORD, bearer, sign_in_client
from llmsite.tests.rights import ROWS, Row, Who
from llmsite.tests.world import address_of, difference, rows_of_all_tables

pytestmark = pytest.mark.django_db

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
# They take no cookie as a proof of who asks, or change nothing whoever asks.
NO_COOKIE_NEEDED = {"api/auth/token", "admin/login/", "admin/password_change/"}
ADMIN_CHANGES = {
    "admin/accounts/user/<path:object_id>/change/",
    "admin/accounts/user/<path:object_id>/delete/",
    "admin/accounts/user/<id>/password/",
    "admin/inference/conversation/<path:object_id>/read/",
    "admin/inference/message/<path:object_id>/open/",
    "admin/training/trainingrun/",
}
TARGETS = [
    (row, verb)
    for row in ROWS
    for verb in (("POST",) if row.route in ADMIN_CHANGES else row.verbs)
    if verb in UNSAFE
    and row.route not in NO_COOKIE_NEEDED
    and not row.route.startswith("admin/r/")
    and row.who is not Who.KEY_HOLDER
    and (row.who is not Who.PERMITTED or row.route in ADMIN_CHANGES)
]

JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"
MULTIPART = "multipart/form-data; boundary=x"
# One page, one address of the API, one of the admin.
FULLY_TRIED = [
    next(row for row, _ in TARGETS if row.route.startswith(start)) for start in ("account/", "api/", "admin/")
]
FOREIGN = ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"})


@pytest.fixture
def browser(people):
    """The owner's browser, which also holds a superuser's rights, so that the admin refuses nothing else."""
    people["owner"].is_superuser = True
    people["owner"].save()
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.get("/login/")
    client.token = client.get("/api/auth/csrf").json()["csrf_token"]
    sign_in_client(client, people["owner"])
    return client


def body_of(row: Row, kind: str) -> str:
    values = {**(row.body or {}), "username": "owner", "password": PASSWORD, "name": "forged", "post": "yes"}
    return json.dumps(values) if kind in (JSON, TEXT) else "&".join(f"{k}={v}" for k, v in values.items())


def attempts(row: Row, token: str):
    """The kind of body and the headers of each forged request.

    A view may be spared the check for one kind of body: each target gets all. How a wrong token and a foreign
    Origin are judged is no matter of the view: one kind asks each, and FULLY_TRIED are asked with all.
    """
    own, every = (JSON if row.route.startswith("api/") else FORM), (JSON, FORM, TEXT, MULTIPART)
    kinds = every if row in FULLY_TRIED else (own,)
    yield from ((kind, {}) for kind in every)
    yield from ((kind, {"X-CSRFToken": "f" * 32}) for kind in kinds)
    yield from ((kind, {"X-CSRFToken": token, **foreign}) for kind in kinds for foreign in FOREIGN[:2])
    if row.route.startswith("api/"):
        # Our scripts send JSON; what a form of another page can send is refused even with a token.
        yield from ((kind, {"X-CSRFToken": token}) for kind in (FORM, TEXT))
        yield JSON, {"X-CSRFToken": token, **FOREIGN[2]}


def test_a_forged_request_changes_nothing_anywhere(browser, objects):
    before, wrong = rows_of_all_tables(), []
    for row, verb in TARGETS:
        for kind, headers in attempts(row, browser.token):
            answer = browser.generic(
                verb, address_of(row, objects), body_of(row, kind), content_type=kind, headers=headers
            )
            if answer.status_code != 403:
                wrong.append(f"{verb} /{row.route} {kind} {headers}: {answer.status_code}")
        wrong += [
            f"{verb} /{row.route} has changed {name}" for name in difference(before, rows_of_all_tables())
        ]

    assert not wrong, "\n".join(wrong)
    assert browser.get("/api/auth/me").status_code == 200


def test_each_way_in_is_among_them():
    """So that a new address that changes something is tried too."""
    tried = {(row.route, verb) for row, verb in TARGETS}

    for row in ROWS:
        for verb in row.verbs:
            if verb in UNSAFE and row.who in (Who.SIGNED_IN, Who.OWNER):
                assert (row.route, verb) in tried
    for route in ("login/", "logout/", "api/auth/login", "api/auth/refresh", "api/auth/logout"):
        assert (route, "POST") in tried


def test_a_foreign_page_is_given_no_leave_to_read(browser, people, settings):
    """No answer names an origin that may read it, whoever asks: there is no CORS here."""
    headers = [
        {"Origin": origin, **more}
        for origin in (
            "https://evil.example",
            "null",
            "http://testserver.evil.example",
            "http://testserver:81",
        )
        for more in (
            {},
            {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrftoken"},
        )
    ]
    for path in ("/api/auth/me", "/api/models", "/api/auth/csrf", "/api/auth/refresh", "/chat/", "/nothing"):
        for one in headers:
            for verb in ("GET", "OPTIONS", "POST"):
                answer = browser.generic(verb, path, headers=one)
                assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_a_key_is_taken_in_one_way_only(people, objects):
    """As a bearer: in no cookie, no address, no body and no other header, and by no page."""
    headers = bearer(people["owner"])
    text = headers["Authorization"].removeprefix("Bearer ")
    assert Client().get("/api/auth/me", headers=headers).status_code == 200

    for query in (f"api_key={text}", f"key={text}", f"access_token={text}", f"token={text}", f"x=1&q={text}"):
        assert Client().get(f"/api/auth/me?{query}").status_code == 400
    for name in ("X-API-Key", "Api-Key", "Cookie", "Proxy-Authorization"):
        assert Client().get("/api/auth/me", headers={name: text}).status_code == 401
    for value in (f"Basic {text}", text, f"Token {text}", f"bearer{text}"):
        assert Client().get("/api/auth/me", headers={"Authorization": value}).status_code == 401
    for name in (settings.ACCESS_COOKIE, settings.REFRESH_COOKIE, "sessionid"):
        client = Client()
        client.cookies[name] = text
        assert client.get("/api/auth/me").status_code == 401
        assert client.get("/chat/").status_code == 302
    for page in ("/chat/", "/account/", f"/chat/{objects.conversation}/", "/admin/"):
        answer = Client().get(page, headers=headers)
        assert (answer.status_code, "login" in answer["Location"]) == (302, True)


def test_a_key_never_reaches_the_account_itself(people, objects):
    """However wide it is: it makes no keys, and ends none."""
    headers = bearer(people["owner"])
    keys = "/api/auth/keys"

    for verb, path in (("GET", keys), ("POST", keys), ("DELETE", f"{keys}/{objects.key}")):
        answer = Client().generic(verb, path, '{"name": "x"}', content_type=JSON, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
