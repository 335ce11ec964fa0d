"""Changing a password, and resetting a forgotten one by e-mail."""

import asyncio
import re
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.test import AsyncClient, Client
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from accounts.keys import create_key, find_key
from accounts.models import ApiKey, AuditEvent, User
from accounts.pages import password_reset
from accounts.tokens import rotate, sign_in
from conftest import PASSWORD, sign_in_client
from llmsite.core.errors import NotSignedIn

NEW = "battery horse correct"
ADDRESS = "alice@example.org"


def link_of(user):
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return f"/password-reset/{uid}/{default_token_generator.make_token(user)}/"


@pytest.mark.django_db
class TestChange:
    @pytest.fixture
    def visitor(self, client, alice):
        client.pair = sign_in_client(client, alice)
        return client

    def change(self, client, **values):
        values = {"password": PASSWORD, "new_password1": NEW, "new_password2": NEW, **values}
        return client.post("/account/password/", values)

    def test_it_ends_all_other_sign_ins_and_keeps_this_browser_in(self, visitor, alice):
        other = sign_in(alice)
        _, text = create_key(alice, "Notebook")

        answer = self.change(visitor)

        assert (answer.status_code, answer["Location"]) == (302, "/account/")
        for pair in (other, visitor.pair):
            with pytest.raises(NotSignedIn):
                rotate(pair.refresh)
        assert "Your password is changed" in visitor.get("/account/").content.decode()
        assert find_key(text)
        alice.refresh_from_db()
        assert alice.check_password(NEW)
        assert AuditEvent.objects.filter(kind="password_changed", subject=alice.pseudonym).exists()

    def test_keys_go_too_where_that_is_ticked(self, visitor, alice, bob):
        _, text = create_key(alice, "Notebook")
        _, others = create_key(bob, "Notebook")

        self.change(visitor, revoke_keys="on")

        assert find_key(text) is None
        assert find_key(others)
        assert AuditEvent.objects.filter(kind="key_revoked").count() == 1

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"password": "wrong"}, "This is not your password."),
            ({"new_password2": "another"}, "The two password fields didn’t match."),
            ({"new_password1": "12345678", "new_password2": "12345678"}, "This password is too common."),
            ({"password": ""}, "This field is required."),
        ],
    )
    def test_otherwise_nothing_changes(self, values, reason, visitor, alice):
        answer = self.change(visitor, **values)

        assert answer.status_code == 400
        assert reason in answer.content.decode()
        alice.refresh_from_db()
        assert alice.check_password(PASSWORD)
        assert rotate(visitor.pair.refresh)

    def test_the_old_one_cannot_be_guessed(self, visitor, settings):
        tries = settings.LOGIN_RATE_LIMIT.count
        answers = [self.change(visitor, password="wrong") for _ in range(tries + 1)]

        assert [answer.status_code for answer in answers] == [400] * tries + [429]
        assert 0 < int(answers[-1]["Retry-After"]) <= 60

    def test_it_asks_for_the_csrf_proof(self, alice):
        strict = Client(enforce_csrf_checks=True)
        sign_in_client(strict, alice)

        assert self.change(strict).status_code == 403


async def ask_for_a_link(address, **headers):
    return await AsyncClient().post("/password-reset/", {"email": address}, headers=headers)


async def mails(count):
    """The mail is sent after the answer, so that nobody can tell from its time whether there was one."""
    for _ in range(200):
        if len(mail.outbox) >= count:
            break
        await asyncio.sleep(0.01)
    return mail.outbox


@pytest.mark.django_db(transaction=True)
class TestLinks:
    @pytest.fixture(autouse=True)
    def _address(self, alice):
        alice.email = ADDRESS
        alice.save()

    async def test_a_link_comes_by_mail_and_opens_the_account(self, alice):
        answer = await ask_for_a_link(ADDRESS)
        message = (await mails(1))[0]

        assert answer["Location"] == "/password-reset/sent/"
        assert message.to == [ADDRESS]
        assert message.subject == "Reset your password"
        link = re.search(r"^http://testserver(/password-reset/\S+/)$", message.body, re.MULTILINE)[1]
        page = await AsyncClient().get(link)
        assert page.status_code == 200
        done = await AsyncClient().post(link, {"new_password1": NEW, "new_password2": NEW})
        assert done["Location"] == "/password-reset/done/"
        await sync_to_async(alice.refresh_from_db)()
        assert await sync_to_async(alice.check_password)(NEW)

    async def test_it_is_in_the_language_of_the_one_who_asks(self, alice):
        await ask_for_a_link(ADDRESS, **{"Accept-Language": "es"})
        message = (await mails(1))[0]

        assert message.subject == "Restablezca su contraseña"
        assert message.body.startswith("Hola, alice:")

    async def test_nobody_learns_whether_there_is_such_an_address(self, alice, bob):
        def disable():
            User.objects.filter(pk=bob.pk).update(email="bob@example.org", is_active=False)

        await sync_to_async(disable)()
        answers = [await ask_for_a_link(a) for a in ("nobody@example.org", "bob@example.org", ADDRESS)]

        assert len({(answer.status_code, answer["Location"]) for answer in answers}) == 1
        assert [message.to for message in await mails(1)] == [[ADDRESS]]
        assert len(mail.outbox) == 1

    async def test_the_answer_does_not_wait_for_the_search_or_the_mail(self, monkeypatch):
        started, answered = [], asyncio.Event()
        loop = asyncio.get_running_loop()

        def send(form, site):
            started.append(asyncio.run_coroutine_threadsafe(answered.wait(), loop).result(20))

        monkeypatch.setattr("accounts.pages.password.send_links", send)
        await ask_for_a_link(ADDRESS)

        assert started == []
        answered.set()
        for _ in range(200):
            if started:
                break
            await asyncio.sleep(0.01)
        assert started == [True]

    async def test_a_mail_server_that_fails_is_no_error_and_names_nobody(self, settings, monkeypatch):
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
        logged = []
        monkeypatch.setattr(password_reset.log, "error", lambda event, **data: logged.append((event, data)))

        answer = await ask_for_a_link(ADDRESS)

        assert answer["Location"] == "/password-reset/sent/"
        for _ in range(200):
            if logged:
                break
            await asyncio.sleep(0.01)
        assert logged[0][0] == "reset_mail_failed"
        assert logged[0][1]["error"] == "ConnectionRefusedError"
        assert ADDRESS not in str(logged)

    async def test_a_mail_box_is_not_filled(self, settings):
        for _ in range(7):
            await ask_for_a_link(ADDRESS)

        await mails(5)
        await asyncio.sleep(0.1)
        assert len(mail.outbox) == 5

    async def test_asking_too_often_is_refused(self, settings):
        count = settings.LOGIN_RATE_LIMIT.count
        answers = [await ask_for_a_link(f"nobody{number}@example.org") for number in range(count + 1)]

        assert [answer.status_code for answer in answers] == [302] * count + [429]
        assert 0 < int(answers[-1]["Retry-After"]) <= 60
        assert "Too many requests." in answers[-1].content.decode()

    async def test_a_foreign_host_makes_no_link(self):
        answer = await AsyncClient().post(
            "/password-reset/", {"email": ADDRESS}, headers={"Host": "evil.example"}
        )

        assert answer.status_code == 400
        await asyncio.sleep(0.05)
        assert mail.outbox == []

    async def test_it_asks_for_the_csrf_proof(self):
        strict = AsyncClient(enforce_csrf_checks=True)

        assert (await strict.post("/password-reset/", {"email": ADDRESS})).status_code == 403


@pytest.mark.django_db
class TestConfirm:
    def choose(self, link, **values):
        return Client().post(link, {"new_password1": NEW, "new_password2": NEW, **values})

    def test_it_ends_all_sign_ins_and_is_audited(self, alice):
        pair = sign_in(alice)
        alice.refresh_from_db()  # A link ends with the next sign-in.
        create_key(alice, "laptop")

        assert self.choose(link_of(alice)).status_code == 302

        with pytest.raises(NotSignedIn):
            rotate(pair.refresh)
        assert ApiKey.objects.visible_to(alice).count() == 1
        assert AuditEvent.objects.filter(kind="password_reset", subject=alice.pseudonym).count() == 1

    def test_the_keys_end_too_where_that_is_ticked(self, alice):
        create_key(alice, "laptop")

        self.choose(link_of(alice), revoke_keys="on")

        assert not ApiKey.objects.visible_to(alice).exists()

    def test_a_used_link_opens_nothing(self, alice):
        link = link_of(alice)
        self.choose(link)

        again = self.choose(link, new_password1="other battery 12", new_password2="other battery 12")

        assert again.status_code == 410
        assert "This link does not work" in again.content.decode()
        assert Client().get(link).status_code == 410
        alice.refresh_from_db()
        assert alice.check_password(NEW)

    def test_an_old_link_opens_nothing(self, alice, settings, monkeypatch):
        link = link_of(alice)
        now = default_token_generator._now()
        later = now + timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT + 1)
        monkeypatch.setattr(default_token_generator, "_now", lambda: later)

        assert self.choose(link).status_code == 410
        assert settings.PASSWORD_RESET_TIMEOUT == 3600

    @pytest.mark.parametrize(
        "link",
        [
            "/password-reset/MQ/abc-def/",
            "/password-reset/_/x/",
            "/password-reset/OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5/x-y/",
        ],
    )
    def test_nonsense_opens_nothing(self, link, alice):
        assert Client().get(link).status_code == 410

    def test_another_users_token_opens_nothing(self, alice, bob):
        uid = link_of(bob).split("/")[2]
        token = link_of(alice).split("/")[3]

        assert self.choose(f"/password-reset/{uid}/{token}/").status_code == 410

    def test_a_disabled_account_is_not_opened(self, alice):
        link = link_of(alice)
        User.objects.filter(pk=alice.pk).update(is_active=False)

        assert self.choose(link).status_code == 410

    def test_a_weak_password_is_refused_and_the_link_still_works(self, alice):
        link = link_of(alice)

        refused = self.choose(link, new_password1="12345678", new_password2="12345678")

        assert refused.status_code == 400
        assert "too common" in refused.content.decode()
        assert self.choose(link).status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/login/", {"username": "alice", "password": "wrong"}),
        ("/register/", {"username": "alice", "password1": NEW, "password2": NEW}),
    ],
)
def test_the_forms_before_a_sign_in_are_counted(path, values, alice, settings):
    tries = settings.LOGIN_RATE_LIMIT.count
    answers = [Client().post(path, values) for _ in range(tries + 1)]

    assert [answer.status_code for answer in answers] == [400] * tries + [429]
    page = answers[-1].content.decode()
    assert "Too many requests." in page
    assert "already exists" not in page
    assert 'value="alice"' in page
    assert 0 < int(answers[-1]["Retry-After"]) <= 60
    assert settings.ACCESS_COOKIE not in answers[-1].cookies


@pytest.mark.django_db
def test_the_log_in_leads_to_the_reset(client):
    assert 'href="/password-reset/"' in client.get("/login/").content.decode()
    for path in ("/password-reset/", "/password-reset/sent/", "/password-reset/done/"):
        assert client.get(path).status_code == 200
