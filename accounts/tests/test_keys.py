"""API keys: shown once, kept as a hash, limited to their scopes."""

import asyncio
import threading
from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.test import AsyncClient
from django.utils import timezone

from accounts import credentials
from accounts.credentials import Credential
from accounts.keys import create_key, find_key, revoke_key
from accounts.models import ApiKey
from accounts.recent import recent_credentials
from conftest import bearer, sign_in_client
from inference.models import Message
from llmsite.core.background import in_any_thread
from llmsite.core.errors import NotAllowed, NotSignedIn

pytestmark = pytest.mark.django_db


def make_key(*args):
    out = StringIO()
    call_command("create_api_key", *args, stdout=out)
    return out.getvalue().strip()


def test_the_command_makes_a_key_that_opens_the_api(client, alice):
    text = make_key("alice", "--name", "laptop")

    answer = client.get("/api/auth/me", headers={"Authorization": f"Bearer {text}"})

    assert answer.json()["username"] == "alice"
    assert text not in str(ApiKey.objects.values().get())


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("nobody", "--name", "x"), "no user named nobody"),
        (("alice", "--name", "x", "--expires", "2001-01-01"), "in the past"),
        (("alice", "--name", "x", "--expires", "soon"), "expires"),
        (("alice", "--name", "x", "--scopes", "everything"), "invalid choice"),
    ],
)
def test_the_command_refuses_in_one_line(args, reason, alice):
    with pytest.raises(CommandError, match=reason):
        make_key(*args)

    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + "x",
        lambda text: text[:20] + ("A" if text[20] != "A" else "B") + text[21:],
        str.upper,
    ],
)
def test_a_changed_key_costs_no_query(change, alice, django_assert_num_queries):
    _, text = create_key(alice, "test")

    with django_assert_num_queries(0):
        assert find_key(change(text)) is None


def test_a_key_of_another_secret_is_refused(alice):
    key, text = create_key(alice, "one")
    _, other = create_key(alice, "two")
    ApiKey.objects.filter(pk=key.pk).update(secret_digest="0" * 64)

    assert find_key(text) is None
    assert find_key(other)


def test_a_key_is_limited_to_its_scopes(client, alice, models):
    headers = bearer(alice, scopes=["metrics"])

    answer = client.get("/api/models", headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    "end",
    [{"revoked_at": timezone.now()}, {"expires_at": timezone.now() - timedelta(seconds=1)}],
    ids=["revoked", "expired"],
)
def test_an_ended_key_opens_nothing(end, client, alice):
    headers = bearer(alice)
    ApiKey.objects.update(**end)

    assert client.get("/api/auth/me", headers=headers).status_code == 401


def test_keys_are_made_listed_and_revoked_by_their_owner_only(client, alice, charlie):
    sign_in_client(client, alice)
    made = client.post("/api/auth/keys", {"name": "laptop"}, content_type="application/json")
    assert made.status_code == 201
    key = made.json()
    assert "key" not in client.get("/api/auth/keys").json()["results"][0]

    sign_in_client(client, charlie)
    assert client.get("/api/auth/keys").json()["results"] == []
    assert client.delete(f"/api/auth/keys/{key['id']}").status_code == 404

    sign_in_client(client, alice)
    assert client.delete(f"/api/auth/keys/{key['id']}").status_code == 204
    assert find_key(key["key"]) is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"limit": "5/m"}, "limit"),
        ({"rate_limit": "5 a minute"}, "rate_limit"),
        ({"rate_limit": "0/m"}, "rate_limit"),
        ({"monthly_budget": "-1"}, "monthly_budget"),
        ({"monthly_budget": "much"}, "monthly_budget"),
        ({"models": "echo"}, "models"),
        ({"models": ["nope"]}, "models"),
        ({"expires_at": "2001-01-01T00:00Z"}, "expires_at"),
        ({"scopes": ["x"]}, "scopes"),
    ],
)
def test_a_key_is_never_less_limited_than_was_asked(values, field, client, alice):
    sign_in_client(client, alice)

    answer = client.post("/api/auth/keys", {"name": "laptop", **values}, content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert not ApiKey.objects.exists()


def test_a_key_cannot_make_keys(client, alice):
    answer = client.post(
        "/api/auth/keys", {"name": "more"}, content_type="application/json", headers=bearer(alice)
    )

    assert answer.status_code == 403


def test_a_key_is_made_with_limits_of_its_own(client, alice, models):
    sign_in_client(client, alice)
    given = {"models": ["echo"], "rate_limit": "20/m", "monthly_budget": "1.5", "scopes": ["chat"]}

    made = client.post("/api/auth/keys", {"name": "laptop", **given}, content_type="application/json")
    listed = client.get("/api/auth/keys").json()["results"][0]

    assert made.status_code == 201
    for shown in (made.json(), listed):
        assert {name: shown[name] for name in given} == given
    key = ApiKey.objects.get()
    assert (key.allowed_models, key.rate_limit, key.monthly_budget_micro) == (["echo"], "20/m", 1_500_000)


def test_who_may_make_no_keys_makes_none(client, alice):
    alice.groups.clear()
    sign_in_client(client, alice)

    answer = client.post("/api/auth/keys", {"name": "laptop"}, content_type="application/json")

    assert answer.status_code == 403
    assert not ApiKey.objects.exists()


@pytest.mark.django_db(transaction=True)
async def test_a_key_asks_its_models_only(alice, models):
    headers = await sync_to_async(bearer)(alice, allowed_models=["echo"])

    async def ask(**values):
        return await AsyncClient().post(
            "/api/predict", {"prompt": "hi", **values}, content_type="application/json", headers=headers
        )

    listed = await AsyncClient().get("/api/models", headers=headers)
    asked = [await ask(model="echo"), await ask(model="scripted"), await ask()]

    assert [model["alias"] for model in listed.json()["results"]] == ["echo"]
    assert [answer.status_code for answer in asked] == [200, 403, 403]
    assert asked[1].json()["error"]["code"] == "model_not_allowed"
    assert not await Message.objects.filter(generation__model_alias="scripted").aexists()


def test_its_use_is_noted_once_a_minute(client, alice, models):
    headers = bearer(alice)
    client.get("/api/models", headers=headers)
    first = ApiKey.objects.get().last_used_at

    recent_credentials.forget()
    client.get("/api/models", headers=headers)
    again = ApiKey.objects.get().last_used_at
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    recent_credentials.forget()
    client.get("/api/models", headers=headers)

    assert first == again
    assert ApiKey.objects.get().last_used_at >= first


@pytest.mark.parametrize("scope", ["train", "metrics", "cache:clear"])
def test_a_scope_reaches_no_further_than_its_owner(scope, alice, staff):
    for user, allowed in ((alice, False), (staff, True)):
        key, _ = create_key(user, "test", scopes=[scope])
        credential = Credential(user, api_key=key)
        if allowed:
            credential.require(scope)
        else:
            with pytest.raises(NotAllowed):
                credential.require(scope)


def test_nobody_has_more_keys_than_a_page_can_show(client, alice, monkeypatch):
    monkeypatch.setattr("accounts.keys.MOST_KEYS", 2)
    sign_in_client(client, alice)

    def make(path, **values):
        return client.post(path, {"name": "laptop", **values}, content_type="application/json")

    made = [make("/api/auth/keys").status_code for _ in range(3)]
    page = client.post("/account/keys/", {"name": "laptop"})

    assert made == [201, 201, 400]
    assert page.status_code == 400
    assert ApiKey.objects.count() == 2


def test_the_list_comes_in_pages(client, alice):
    for number in range(3):
        create_key(alice, str(number))
    sign_in_client(client, alice)

    first = client.get("/api/auth/keys?limit=2").json()
    second = client.get(first["next"]).json()

    assert [key["name"] for key in first["results"] + second["results"]] == ["2", "1", "0"]
    assert second["next"] is None


@pytest.mark.django_db(transaction=True)
async def test_many_requests_at_once_prove_their_key_with_one_query(alice, monkeypatch):
    _, text = await sync_to_async(create_key)(alice, "busy")
    proofs = []
    prove = credentials.prove
    monkeypatch.setattr(credentials, "prove", lambda token: proofs.append(token) or prove(token))

    found = await asyncio.gather(*(credentials.prove_for_a_while(text) for _ in range(20)))

    assert {credential.user for credential in found} == {alice}
    assert len(proofs) == 1


@pytest.mark.django_db(transaction=True)
async def test_who_asks_after_a_revocation_does_not_wait_for_a_check_from_before(alice, monkeypatch):
    key, text = await sync_to_async(create_key)(alice, "busy")
    prove, reading, revoked = credentials.prove, threading.Event(), threading.Event()

    def slow_prove(token):
        credential = prove(token)
        reading.set()
        revoked.wait(10)
        return credential

    monkeypatch.setattr(credentials, "prove", slow_prove)
    before = asyncio.create_task(credentials.prove_for_a_while(text, in_thread=in_any_thread))
    await asyncio.to_thread(reading.wait, 10)
    await sync_to_async(revoke_key)(key, actor=alice)
    monkeypatch.setattr(credentials, "prove", prove)

    with pytest.raises(NotSignedIn):
        await asyncio.wait_for(credentials.prove_for_a_while(text, in_thread=in_any_thread), 10)

    revoked.set()
    await before


@pytest.mark.django_db
async def test_a_bad_key_is_bad_for_all_who_waited_for_its_check():
    text = "llm_aaaaaaaa_" + "b" * 43
    asked = [credentials.prove_for_a_while(text) for _ in range(5)]

    assert {type(one) for one in await asyncio.gather(*asked, return_exceptions=True)} == {NotSignedIn}
