"""API keys: shown once, kept as a hash, limited to their scopes."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.keys import create_key, find_key
from accounts.models import ApiKey
from conftest import bearer, sign_in_client

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
        ({"rate_limit": "5/m"}, "rate_limit"),
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
