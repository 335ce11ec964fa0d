"""No store, log or page of the admin holds a credential that could be used: searched with real values."""

import logging

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core import mail
from django.core.cache import caches
from django.test import AsyncClient, Client
from redis import Redis

from accounts.models import User
from conftest import PASSWORD, sign_in_client
from inference.tests.waiting import until
from llmsite.tests.rights import ROWS, Who
from llmsite.tests.world import address_of

NEW_PASSWORD = "a staple, a battery and a horse"
JSON = {"content_type": "application/json"}


def tokens_of(answer):
    names = (settings.ACCESS_COOKIE, settings.REFRESH_COOKIE)
    return {name: answer.cookies[name].value for name in names if name in answer.cookies}


def live(username: str) -> dict[str, str]:
    """What somebody does who uses everything there is; all credentials they come by, by name."""
    browser, script = Client(), Client()
    registration = {"username": username, "email": f"{username}@example.org", "password1": PASSWORD}
    found = {"page " + name: value for name, value in _register(browser, registration).items()}
    script.post("/login/", {"username": username, "password": PASSWORD + " wrong"})
    came = script.post("/api/auth/login", {"username": username, "password": PASSWORD}, **JSON)
    found |= {"script " + name: value for name, value in tokens_of(came).items()}
    renewed = script.post("/api/auth/refresh", {}, **JSON)
    found |= {"renewed " + name: value for name, value in tokens_of(renewed).items()}
    pair = script.post("/api/auth/token", {"username": username, "password": PASSWORD}, **JSON).json()
    found |= {"program " + name: value for name, value in pair.items()}
    made = script.post("/api/auth/keys", {"name": "by script"}, **JSON).json()
    shown = browser.post("/account/keys/", {"name": "by page"})
    found |= {"key by script": made["key"], "key by page": shown.context["text"]}
    for name in ("key by script", "key by page"):
        headers = {"Authorization": f"Bearer {found[name]}"}
        assert Client().get("/api/models", headers=headers).status_code == 200
    Client().get(f"/api/models?api_key={made['key']}")
    Client().get("/api/models", headers={"Authorization": f"Bearer {made['key'][:-1]}!"})
    changed = {"password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    answer = browser.post("/account/password/", changed)
    found |= {"changed " + name: value for name, value in tokens_of(answer).items()}
    return found | {"password": PASSWORD, "mistyped": PASSWORD + " wrong", "new password": NEW_PASSWORD}


def _register(browser: Client, form: dict[str, str]) -> dict[str, str]:
    return tokens_of(browser.post("/register/", {**form, "password2": form["password1"]}))


def dump_of_the_database() -> str:
    return "\n".join(repr(row) for table in apps.get_models() for row in table._base_manager.values())


def dump_of_redis() -> str:
    if not settings.REDIS_URL:
        return repr(caches["default"]._cache)
    store = Redis.from_url(settings.REDIS_URL)
    try:
        readers = {b"string": store.get, b"hash": store.hgetall, b"set": store.smembers}
        readers[b"zset"] = lambda key: store.zrange(key, 0, -1)
        readers[b"list"] = lambda key: store.lrange(key, 0, -1)
        readers[b"stream"] = store.xrange
        return "\n".join(repr((key, readers[store.type(key)](key))) for key in store.scan_iter())
    finally:
        store.close()


@pytest.mark.django_db
def test_nothing_that_is_kept_or_shown_is_a_credential(people, objects, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    secrets = live("dora")
    # Of a key the middle alone would do, whatever stands around it.
    secrets |= {f"secret of {name}": text[13:56] for name, text in secrets.items() if name.startswith("key")}
    assert len(secrets) == 17
    assert len(set(secrets.values())) == len(secrets)

    boss = Client()
    sign_in_client(boss, people["superuser"])
    dora = User.objects.get(username="dora")
    objects.user, objects.session = dora.pk, dora.sessions.latest("created_at").pk
    objects.key = dora.api_keys.latest("created_at").pk
    pages = [
        (row.route, boss.get(address_of(row, objects), follow=True).content.decode())
        for row in ROWS
        if row.who in (Who.STAFF, Who.PERMITTED) and row.route != "admin/accounts/auditevent/export/"
    ]
    told = capfd.readouterr()
    places = {
        "the database": dump_of_the_database(),
        "Redis": dump_of_redis(),
        "the logs": caplog.text + told.out + told.err,
        **dict(pages),
    }

    assert "dora" in places["the database"]
    assert "dora" in places["admin/accounts/user/"]
    assert '"request"' in places["the logs"] or "'request'" in places["the logs"]
    leaks = [
        f"{name} in {place}" for place, text in places.items() for name, one in secrets.items() if one in text
    ]
    assert not leaks


@pytest.mark.django_db(transaction=True)
async def test_a_link_that_sets_a_password_is_in_the_mail_alone(make_user, caplog):
    caplog.set_level(logging.DEBUG)
    await sync_to_async(make_user)("erin", email="erin@example.org")
    await AsyncClient().post("/password-reset/", {"email": "erin@example.org"})
    await until(lambda: mail.outbox)
    token = mail.outbox[0].body.split("/password-reset/")[1].split("/")[1]

    assert len(token) > 30
    assert token not in await sync_to_async(dump_of_the_database)()
    assert token not in dump_of_redis()
    assert token not in caplog.text
