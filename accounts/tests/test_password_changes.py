"""A password that is no longer good opens nothing, whatever was under way when it changed."""

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client

from accounts.models import Session, User
from accounts.passwords import check_password
from conftest import PASSWORD, sign_in_client

pytestmark = pytest.mark.django_db


class TestPasswordsThatChange:
    """A password that is no longer good opens nothing, whatever was under way when it changed."""

    @pytest.mark.parametrize(
        ("path", "place"),
        [("/login/", "pages.sign_in"), ("/api/auth/login", "api"), ("/api/auth/token", "api")],
    )
    @pytest.mark.parametrize(
        "change", [{"password": make_password("battery horse correct")}, {"is_active": False}]
    )
    def test_a_log_in_that_is_overtaken_fails(self, path, place, change, client, alice, monkeypatch):
        def overtaken(username, password, request):
            user = check_password(username, password, request)
            User.objects.filter(pk=alice.pk).update(**change)
            return user

        monkeypatch.setattr(f"accounts.{place}.check_password", overtaken)
        content_type = {} if path == "/login/" else {"content_type": "application/json"}

        answer = client.post(path, {"username": "alice", "password": PASSWORD}, **content_type)

        assert answer.status_code == (400 if path == "/login/" else 401)
        assert not Session.objects.exists()

    def test_without_a_password_the_sign_ins_end(self, client, alice, staff):
        stolen = Client()
        sign_in_client(stolen, alice)
        sign_in_client(client, staff)
        form = {"usable_password": "false", "unset-password": "1"}

        assert client.post(f"/admin/accounts/user/{alice.pk}/password/", form).status_code == 302

        assert stolen.get("/account/").status_code == 302
        assert client.get("/account/").status_code == 200

    def test_a_change_that_is_overtaken_fails(self, client, alice, monkeypatch):
        sign_in_client(client, alice)
        new = {"new_password1": "battery horse correct", "new_password2": "battery horse correct"}

        def overtaken(*args):
            User.objects.filter(pk=alice.pk).update(password=make_password("another one"))

        monkeypatch.setattr("accounts.pages.password.wrong_password", overtaken)
        answer = client.post("/account/password/", {"password": PASSWORD, **new})

        assert answer.status_code == 401
        alice.refresh_from_db()
        assert alice.check_password("another one")


def test_who_guesses_a_password_does_not_keep_its_owner_from_changing_it(client, alice, settings):
    sign_in_client(client, alice)
    for _ in range(settings.LOGIN_RATE_LIMIT.count + 1):
        guessed = Client().post("/login/", {"username": "alice", "password": "wrong"})
    assert guessed.status_code == 429
    new = {"new_password1": "battery horse correct", "new_password2": "battery horse correct"}

    assert client.post("/account/password/", {"password": PASSWORD, **new}).status_code == 302
