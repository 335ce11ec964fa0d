"""Signing in and out: pages, scripts and programs, one sign-in for all."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from accounts import forms
from accounts.models import Session, User
from accounts.tokens import rotate, sign_in
from conftest import PASSWORD, bearer, sign_in_client
from llmsite.core.errors import NotSignedIn

pytestmark = pytest.mark.django_db


def signed_in_cookies(answer):
    return {name: answer.cookies[name] for name in (settings.ACCESS_COOKIE, settings.REFRESH_COOKIE)}


def expired_access(user, session):
    token = AccessToken.for_user(user)
    token["sid"] = str(session.pk)
    token.set_exp(lifetime=-timedelta(minutes=5))
    return str(token)


class TestPages:
    def test_it_registers_signs_in_and_opens_the_chat(self, client, models):
        answer = client.post(
            "/register/", {"username": "dora", "email": "", "password1": PASSWORD, "password2": PASSWORD}
        )

        assert (answer.status_code, answer["Location"]) == (302, "/chat/")
        assert client.get("/chat/").status_code == 200
        assert User.objects.get().check_password(PASSWORD)

    def test_cookies_are_kept_from_scripts_and_other_sites(self, client, alice):
        answer = client.post("/login/", {"username": "alice", "password": PASSWORD})

        for cookie in signed_in_cookies(answer).values():
            assert cookie["httponly"]
            assert cookie["samesite"] == "Lax"
            assert cookie["path"] == "/"
            assert cookie["domain"] == ""
            assert len(cookie.OutputString()) < 4096

    def test_a_wrong_password_says_so_and_sets_nothing(self, client, alice):
        answer = client.post("/login/", {"username": "alice", "password": "wrong"})

        assert answer.status_code == 400
        assert "The username or the password is not right." in answer.content.decode()
        assert not answer.cookies.get(settings.ACCESS_COOKIE)

    @pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
    def test_it_leads_nowhere_else(self, target, client, alice):
        answer = client.post("/login/", {"username": "alice", "password": PASSWORD, "next": target})

        assert answer["Location"] == "/chat/"

    def test_the_root_leads_to_the_sign_in(self, client):
        answer = client.get("/", follow=True)

        assert answer.redirect_chain[-1][0].startswith("/login/")

    def test_logging_out_ends_the_sign_in_everywhere(self, client, alice):
        pair = sign_in_client(client, alice)

        answer = client.post("/logout/")

        assert all(cookie["max-age"] == 0 for cookie in signed_in_cookies(answer).values())
        other = Client(headers={"Authorization": f"Bearer {pair.access}"})
        assert other.get("/api/auth/me").status_code == 401
        with pytest.raises(NotSignedIn):
            rotate(pair.refresh)

    def test_a_page_renews_an_expired_access_cookie_on_the_way(self, client, alice, models):
        pair = sign_in_client(client, alice)
        client.cookies[settings.ACCESS_COOKIE] = expired_access(alice, Session.objects.get())

        answer = client.get("/chat/")

        assert answer.status_code == 200
        renewed = signed_in_cookies(answer)
        assert renewed[settings.REFRESH_COOKIE].value != pair.refresh
        assert client.get("/chat/").status_code == 200

    def test_the_admin_uses_the_same_sign_in(self, client, staff):
        assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith("/login/?next=")

        sign_in_client(client, staff)

        assert client.get("/admin/").status_code == 200
        assert client.get("/admin/inference/chatmodelconfig/").status_code == 200

    def test_the_admin_is_closed_to_others(self, client, alice):
        sign_in_client(client, alice)

        assert client.get("/admin/").status_code == 302

    def test_registration_can_be_closed(self, client, settings):
        settings.REGISTRATION_OPEN = False

        answer = client.post("/register/", {"username": "eve", "password1": PASSWORD, "password2": PASSWORD})

        assert answer.status_code == 403
        assert not User.objects.exists()

    def test_a_password_changed_in_the_admin_ends_the_sign_ins(self, client, staff, alice):
        sign_in_client(client, staff)
        victim = sign_in(alice)
        new = "battery horse correct"
        passwords = {"password1": new, "password2": new, "usable_password": "true"}

        answer = client.post(f"/admin/accounts/user/{alice.pk}/password/", passwords)

        assert answer.status_code == 302, answer.content
        alice.refresh_from_db()
        assert alice.check_password(new)
        with pytest.raises(NotSignedIn):
            rotate(victim.refresh)
        assert client.get("/api/auth/me").status_code == 200

    def test_the_admin_changes_an_own_password_on_the_account_page(self, client, staff):
        sign_in_client(client, staff)

        assert client.get("/admin/password_change/")["Location"] == "/account/password/"

    def test_a_renewed_hash_ends_nothing(self, client, alice, settings):
        pair = sign_in(alice)
        settings.PASSWORD_HASHERS = [
            "django.contrib.auth.hashers.PBKDF2PasswordHasher",
            "django.contrib.auth.hashers.MD5PasswordHasher",
        ]

        assert alice.check_password(PASSWORD)

        assert alice.password.startswith("pbkdf2")
        assert rotate(pair.refresh)


class TestScripts:
    def test_cookies_without_a_csrf_proof_change_nothing(self, alice):
        client = Client(enforce_csrf_checks=True)
        sign_in_client(client, alice)

        answer = client.post("/api/conversations", {}, content_type="application/json")

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf_failed")
        assert not alice.conversations.exists()

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
    def test_a_plain_form_of_another_site_changes_nothing(self, kind, alice):
        client = Client(enforce_csrf_checks=True)
        token = client.get("/api/auth/csrf").json()["csrf_token"]
        sign_in_client(client, alice)

        answer = client.post("/api/conversations", "{}", content_type=kind, headers={"X-CSRFToken": token})

        assert answer.status_code == 403

    @pytest.mark.parametrize(
        "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    def test_a_foreign_page_changes_nothing(self, headers, alice):
        client = Client(enforce_csrf_checks=True)
        token = client.get("/api/auth/csrf").json()["csrf_token"]
        sign_in_client(client, alice)

        answer = client.post(
            "/api/conversations",
            {},
            content_type="application/json",
            headers={"X-CSRFToken": token, **headers},
        )

        assert answer.status_code == 403
        assert not alice.conversations.exists()

    @pytest.mark.parametrize("path", ["login", "register", "refresh", "logout"])
    def test_signing_in_and_out_asks_for_the_proof_too(self, path, alice):
        client = Client(enforce_csrf_checks=True)
        body = {"username": "alice", "password": PASSWORD} if path in ("login", "register") else {}

        answer = client.post(f"/api/auth/{path}", body, content_type="application/json")

        assert answer.status_code == 403
        assert not Session.objects.exists()

    def test_it_signs_in_with_the_proof_and_keeps_tokens_out_of_the_body(self, alice):
        client = Client(enforce_csrf_checks=True)
        token = client.get("/api/auth/csrf").json()["csrf_token"]

        answer = client.post(
            "/api/auth/login",
            {"username": "alice", "password": PASSWORD},
            content_type="application/json",
            headers={"X-CSRFToken": token},
        )

        assert answer.status_code == 200
        for cookie in signed_in_cookies(answer).values():
            assert cookie.value not in answer.content.decode()
        assert client.get("/api/auth/me").json()["username"] == "alice"
        again = client.post(
            "/api/auth/refresh", {}, content_type="application/json", headers={"X-CSRFToken": token}
        )
        assert again.status_code == 204

    def test_a_weak_password_is_named(self, client):
        answer = client.post(
            "/api/auth/register",
            {"username": "dora", "password": "12345678"},
            content_type="application/json",
        )

        assert answer.status_code == 400
        assert answer.json()["error"]["field"] == "password"

    @pytest.mark.parametrize("username", ["alice", "ALICE", "two words", ""])
    def test_both_doors_refuse_the_same_names(self, username, alice):
        page = Client().post(
            "/register/", {"username": username, "password1": PASSWORD, "password2": PASSWORD}
        )
        script = Client().post(
            "/api/auth/register",
            {"username": username, "password": PASSWORD},
            content_type="application/json",
        )

        assert (page.status_code, script.status_code) == (400, 400)
        assert script.json()["error"]["field"] == "username"
        assert User.objects.count() == 1

    @pytest.mark.parametrize("path", ["/register/", "/api/auth/register"])
    def test_a_name_taken_at_the_last_moment_is_refused(self, path, monkeypatch, make_user):
        def taken_meanwhile(form, save=forms.RegisterForm.save):
            make_user("dora")
            return save(form)

        monkeypatch.setattr(forms.RegisterForm, "save", taken_meanwhile)
        body = {"username": "dora", "password": PASSWORD, "password1": PASSWORD, "password2": PASSWORD}
        if path.startswith("/api"):
            body = {"username": "dora", "password": PASSWORD}
            answer = Client().post(path, body, content_type="application/json")
        else:
            answer = Client().post(path, body)

        assert answer.status_code == 400

    def test_a_trusted_origin_may_sign_in(self, settings, alice):
        settings.CSRF_TRUSTED_ORIGINS = ["https://front.example"]
        client = Client(enforce_csrf_checks=True)
        token = client.get("/api/auth/csrf").json()["csrf_token"]

        answer = client.post(
            "/api/auth/login",
            {"username": "alice", "password": PASSWORD},
            content_type="application/json",
            headers={"X-CSRFToken": token, "Origin": "https://front.example", "Sec-Fetch-Site": "cross-site"},
        )

        assert answer.status_code == 200


class TestPrograms:
    def test_a_token_pair_opens_the_api_and_renews_itself(self, client, alice):
        pair = client.post(
            "/api/auth/token", {"username": "alice", "password": PASSWORD}, content_type="application/json"
        ).json()

        me = client.get("/api/auth/me", headers={"Authorization": f"Bearer {pair['access']}"})
        renewed = client.post(
            "/api/auth/refresh", {"refresh": pair["refresh"]}, content_type="application/json"
        )

        assert me.json()["username"] == "alice"
        assert renewed.json()["refresh"] != pair["refresh"]

    def test_a_wrong_password_is_401(self, client, alice):
        answer = client.post(
            "/api/auth/token", {"username": "alice", "password": "wrong"}, content_type="application/json"
        )

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "wrong_credentials")

    @pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer ", "Basic YTpi", "Bearer llm_12345678_x"])
    def test_a_bad_bearer_never_falls_back_to_the_cookie(self, header, client, alice):
        sign_in_client(client, alice)

        answer = client.get("/api/auth/me", headers={"Authorization": header})

        assert answer.status_code == 401

    @pytest.mark.parametrize("claim", ["exp", "jti", "sid", "aud", "iss", "token_type"])
    def test_a_token_without_a_claim_opens_nothing(self, claim, client, alice):
        session = Session.objects.create(user=alice)
        token = AccessToken.for_user(alice)
        token["sid"] = str(session.pk)
        payload = {**token.payload, "aud": "llmsite", "iss": settings.SIMPLE_JWT["ISSUER"]}
        assert read_me(client, payload).status_code == 200

        del payload[claim]

        assert read_me(client, payload).status_code == 401

    @pytest.mark.parametrize("algorithm", ["HS512", "none"])
    def test_another_algorithm_opens_nothing(self, algorithm, client, alice):
        session = Session.objects.create(user=alice)
        token = AccessToken.for_user(alice)
        payload = {
            **token.payload,
            "sid": str(session.pk),
            "aud": "llmsite",
            "iss": settings.SIMPLE_JWT["ISSUER"],
        }

        assert read_me(client, payload, algorithm=algorithm).status_code == 401

    def test_a_disabled_user_is_out_at_once(self, client, alice):
        pair = sign_in(alice)
        headers = bearer(alice)
        User.objects.filter(pk=alice.pk).update(is_active=False)

        assert (
            client.get("/api/auth/me", headers={"Authorization": f"Bearer {pair.access}"}).status_code == 401
        )
        assert client.get("/api/auth/me", headers=headers).status_code == 401
        with pytest.raises(NotSignedIn):
            rotate(pair.refresh)


def read_me(client, payload, *, algorithm="HS256"):
    import jwt

    key = None if algorithm == "none" else settings.SIMPLE_JWT["SIGNING_KEY"]
    raw = jwt.encode(payload, key, algorithm=algorithm)
    return client.get("/api/auth/me", headers={"Authorization": f"Bearer {raw}"})


@pytest.mark.parametrize("path", ["/login/", "/api/auth/login"])
def test_a_browser_has_one_sign_in(path, client, alice):
    content_type = {} if path == "/login/" else {"content_type": "application/json"}
    for _ in range(3):
        client.post(path, {"username": "alice", "password": PASSWORD}, **content_type)

    assert Session.objects.live().count() == 1


def test_a_sign_in_is_dated(client, alice):
    client.post("/login/", {"username": "alice", "password": PASSWORD})

    alice.refresh_from_db()
    assert timezone.now() - alice.last_login < timedelta(minutes=1)


class TestProgramsLogOut:
    def post(self, body=None, **headers):
        return Client().post("/api/auth/logout", body or {}, content_type="application/json", headers=headers)

    def test_with_their_bearer(self, alice):
        pair, other = sign_in(alice), sign_in(alice)

        assert self.post(Authorization=f"Bearer {pair.access}").status_code == 204

        with pytest.raises(NotSignedIn):
            rotate(pair.refresh)
        assert rotate(other.refresh)
        assert self.post(Authorization=f"Bearer {pair.access}").status_code == 401

    def test_with_their_refresh_token(self, client, alice):
        pair = sign_in(alice)

        assert self.post({"refresh": pair.refresh}).status_code == 204

        assert (
            client.get("/api/auth/me", headers={"Authorization": f"Bearer {pair.access}"}).status_code == 401
        )

    def test_a_key_is_revoked_instead(self, alice):
        assert self.post(**bearer(alice)).status_code == 403

    def test_a_browser_still_needs_its_csrf_proof(self, alice):
        pair = sign_in(alice)
        client = Client(enforce_csrf_checks=True)
        client.cookies[settings.REFRESH_COOKIE] = pair.refresh

        answer = client.post("/api/auth/logout", {"refresh": pair.refresh}, content_type="application/json")

        assert answer.status_code == 403
        assert rotate(pair.refresh)
