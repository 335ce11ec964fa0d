"""The account page: sign-ins, keys, usage and one's own data, as plain forms without a script."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import ledger, money
from accounts.keys import create_key, find_key
from accounts.models import ApiKey, AuditEvent, Session, Team, User
from accounts.pages.devices import device_name
from accounts.tokens import rotate, sign_in
from conftest import PASSWORD, sign_in_client
from llmsite.core.errors import NotSignedIn

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0"
SAFARI = "Safari/605.1.15"
FORMS = (
    "/account/email/",
    "/account/sessions/00000000-0000-0000-0000-000000000001/end/",
    "/account/sessions/end-others/",
    "/account/keys/",
    "/account/keys/1/revoke/",
    "/account/training/",
    "/account/download/",
    "/account/delete/",
)


@pytest.fixture
def visitor(client, alice):
    """Alice's browser; `visitor.pair` are its tokens."""
    client.pair = sign_in_client(client, alice)
    return client


def page_of(client, address="/account/"):
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def is_live(pair):
    try:
        rotate(pair.refresh)
    except NotSignedIn:
        return False
    return True


def kinds(user):
    return list(AuditEvent.objects.filter(subject=user.pseudonym).values_list("kind", flat=True))


def use(user, *, model="gpt", key=None, cost=Decimal(1), estimated=False, tokens=1000):
    call = uuid4()
    ledger.reserve(
        call,
        payer=user,
        api_key=key,
        model=model,
        provider="openai",
        input_price=cost,
        output_price=cost,
        input_tokens=tokens,
        input_tokens_at_most=tokens,
        output_tokens_at_most=tokens,
    )
    ledger.settle(call, input_tokens=tokens, output_tokens=tokens, estimated=estimated)


class TestPage:
    def test_it_shows_who_one_is(self, visitor, alice):
        User.objects.filter(pk=alice.pk).update(email="alice@example.org")
        team = Team.objects.create(name="Foxes <b>")
        team.members.add(alice)
        alice.groups.add(Group.objects.get(name="curator"))

        page = page_of(visitor)

        assert "alice@example.org" in page
        assert "Foxes &lt;b&gt;" in page
        assert "curator, member" in page

    def test_the_number_of_queries_does_not_grow_with_what_it_shows(self, visitor, alice, models):
        def count():
            with CaptureQueriesContext(connection) as queries:
                page_of(visitor)
            return len(queries)

        before = count()
        for number in range(5):
            sign_in(alice)
            key, _ = create_key(alice, f"key {number}", scopes=["chat"])
            use(alice, model=f"model {number}", key=key)
            Team.objects.create(name=f"team {number}").members.add(alice)

        assert count() == before
        assert before <= 14

    @pytest.mark.parametrize("address", FORMS)
    def test_a_form_without_its_csrf_proof_changes_nothing(self, address, alice):
        strict = Client(enforce_csrf_checks=True)
        sign_in_client(strict, alice)

        assert strict.post(address).status_code == 403

    @pytest.mark.parametrize("address", FORMS)
    def test_who_comes_to_a_form_by_a_link_is_led_to_the_page(self, address, visitor):
        answer = visitor.get(address)

        assert (answer.status_code, answer["Location"]) == (302, "/account/")

    @pytest.mark.parametrize("address", ["/account/", "/account/password/", *FORMS])
    def test_it_is_for_people_who_are_signed_in(self, address, client):
        answers = [client.get(address)] + [client.post(address)] * (address != "/account/")
        for answer in answers:
            assert (answer.status_code, answer["Location"]) == (302, f"/login/?next={address}")

    def test_the_menu_leads_there(self, visitor, models):
        assert 'href="/account/"' in page_of(visitor, "/chat/")

    def test_it_speaks_spanish(self, visitor):
        page = visitor.get("/account/", headers={"Accept-Language": "es"}).content.decode()

        assert "Sus datos" in page
        assert not re.search(r">\s*(Devices|API keys|Your data|New key)\s*<", page)


class TestEmail:
    def test_it_is_changed_with_the_password(self, visitor, alice):
        answer = visitor.post("/account/email/", {"email": "new@example.org", "password": PASSWORD})

        assert (answer.status_code, answer["Location"]) == (302, "/account/#profile")
        alice.refresh_from_db()
        assert alice.email == "new@example.org"
        assert "Your e-mail address is saved." in page_of(visitor)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"email": "new@example.org", "password": "wrong"}, "This is not your password."),
            ({"email": "new@example.org"}, "This field is required."),
            ({"email": "nonsense", "password": PASSWORD}, "Enter a valid email address."),
        ],
    )
    def test_it_stays_as_it_was_otherwise(self, values, reason, visitor, alice):
        answer = visitor.post("/account/email/", values)

        assert answer.status_code == 400
        assert reason in answer.content.decode()
        alice.refresh_from_db()
        assert alice.email == ""

    def test_passwords_cannot_be_guessed_there(self, visitor, settings):
        values = {"email": "new@example.org", "password": "wrong"}
        answers = [
            visitor.post("/account/email/", values) for _ in range(settings.LOGIN_RATE_LIMIT.count + 1)
        ]

        assert [answer.status_code for answer in answers] == [400] * (len(answers) - 1) + [429]
        assert 0 < int(answers[-1]["Retry-After"]) <= 60
        assert "Too many requests." in answers[-1].content.decode()


class TestSignIns:
    def test_they_are_listed_with_their_devices(self, visitor, alice, rf):
        sign_in(alice, request=rf.get("/", headers={"User-Agent": FIREFOX}))

        page = page_of(visitor)

        assert page.count("/end/") == 2
        assert "Firefox on Linux" in page
        assert page.count("this one") == 1

    def test_those_that_have_ended_or_run_out_are_not(self, visitor, alice):
        ended, forgotten = (Session.objects.create(user=alice) for _ in range(2))
        Session.objects.filter(pk=ended.pk).revoke()
        Session.objects.filter(pk=forgotten.pk).update(last_used_at=timezone.now() - timedelta(days=15))

        assert page_of(visitor).count("/end/") == 1

    def test_one_is_ended(self, visitor, alice):
        other = sign_in(alice)
        session = Session.objects.latest("created_at")

        answer = visitor.post(f"/account/sessions/{session.pk}/end/")

        assert answer["Location"] == "/account/#sign-ins"
        assert not is_live(other)
        assert is_live(visitor.pair)
        assert "session_ended" in kinds(alice)

    def test_ending_this_one_logs_out(self, visitor, alice):
        session = Session.objects.get()

        answer = visitor.post(f"/account/sessions/{session.pk}/end/")

        assert answer["Location"] == "/login/"
        assert answer.cookies[settings.ACCESS_COOKIE]["max-age"] == 0
        assert answer.cookies[settings.REFRESH_COOKIE]["max-age"] == 0
        assert not is_live(visitor.pair)

    def test_all_others_are_ended(self, visitor, alice, bob):
        others, stranger = [sign_in(alice) for _ in range(3)], sign_in(bob)

        visitor.post("/account/sessions/end-others/")

        assert not any(is_live(pair) for pair in others)
        assert is_live(visitor.pair)
        assert is_live(stranger)

    def test_anothers_is_answered_like_a_missing_one(self, visitor, bob):
        victim = sign_in(bob)
        foreign = Session.objects.get(user=bob)

        answers = [visitor.post(f"/account/sessions/{pk}/end/") for pk in (foreign.pk, uuid4())]

        assert [answer.status_code for answer in answers] == [404, 404]
        first, second = (without_reference(answer) for answer in answers)
        assert first == second
        assert is_live(victim)

    def test_many_are_cut_and_it_says_so(self, visitor, alice):
        Session.objects.bulk_create(Session(user=alice) for _ in range(60))

        page = page_of(visitor)

        assert page.count("/end/") == 51
        assert "Older ones are not listed." in page


def without_reference(answer):
    return re.sub(r"<code>[^<]*</code>", "", answer.content.decode())


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} {SAFARI} Edg/130.0", "Edge on Windows"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 {SAFARI}", "Safari on iPhone"),
        (f"Mozilla/5.0 (Linux; Android 15) {CHROME} Mobile {SAFARI}", "Chrome on Android"),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 {SAFARI}", "Safari on macOS"),
        ("curl/8.5.0", "curl"),
        ("python-httpx/0.28.1", "python-httpx"),
        ("", "Unknown device"),
        ("Mozilla/5.0 (something)", "Unknown device"),
        ("<script>alert(1)</script>", "Unknown device"),
    ],
)
def test_devices_have_names(user_agent, name):
    assert device_name(user_agent) == name


class TestKeys:
    def test_a_new_one_is_shown_once(self, visitor, alice):
        answer = visitor.post("/account/keys/", {"name": "A notebook"})

        page = answer.content.decode()
        text = re.search(r"llm_[a-z0-9]{8}_[A-Za-z0-9_-]{51}", page)[0]
        assert find_key(text).user == alice
        assert f"Authorization: Bearer {text}" in page.replace("&#x27;", "'")
        assert "no-store" in answer["Cache-Control"]
        assert text not in str(answer.cookies)
        secret = text.split("_", 2)[2]
        later = page_of(visitor)
        assert secret not in later
        assert f"llm_{ApiKey.objects.get().public_id}_…" in later

    def test_it_is_narrowed_as_the_form_says(self, visitor, models):
        expires = (timezone.now() + timedelta(days=30)).date()
        values = {
            "name": "Narrow",
            "scopes": ["chat", "embed"],
            "models": ["echo"],
            "expires": expires.isoformat(),
            "rate_limit": " 20/m ",
            "monthly_budget": "1.5",
        }

        assert visitor.post("/account/keys/", values).status_code == 200

        key = ApiKey.objects.get()
        assert (key.scopes, key.allowed_models, key.rate_limit) == (["chat", "embed"], ["echo"], "20/m")
        assert key.monthly_budget_micro == 1_500_000
        assert key.expires_at == datetime(expires.year, expires.month, expires.day, tzinfo=UTC)
        page = page_of(visitor)
        for shown in ("Narrow", "chat, embeddings", "echo", "20/m", "1.5 USD", "never"):
            assert shown in page

    @pytest.mark.parametrize(
        ("field", "value", "reason"),
        [
            ("name", "", "This field is required."),
            ("name", "x" * 101, "at most 100 characters"),
            ("scopes", "root", "Select a valid choice."),
            ("models", "no-such-model", "Select a valid choice."),
            ("expires", "2020-01-01", "This moment lies in the past."),
            ("expires", "tomorrow", "Enter a valid date."),
            ("rate_limit", "0/m", "A rate is a number per s, m, h or d"),
            ("rate_limit", "many", "A rate is a number per s, m, h or d"),
            ("monthly_budget", "-1", "greater than or equal to 0"),
            ("monthly_budget", "NaN", "Enter a number."),
            ("monthly_budget", "1e300", "Ensure that there are no more than"),
        ],
    )
    def test_nonsense_makes_none_and_says_why(self, field, value, reason, visitor, models):
        answer = visitor.post("/account/keys/", {"name": "A <name>", field: value})

        assert answer.status_code == 400
        page = answer.content.decode()
        assert reason in page
        assert re.search(r'<details class="fold" open>\s*<summary class="button">New key', page)
        assert not ApiKey.objects.exists()

    def test_who_may_not_have_one_gets_none(self, visitor, alice):
        alice.groups.clear()

        assert "New key" not in page_of(visitor)
        assert visitor.post("/account/keys/", {"name": "Mine"}).status_code == 403
        assert not ApiKey.objects.exists()

    def test_one_is_revoked(self, visitor, alice):
        key, text = create_key(alice, "Old one")

        answer = visitor.post(f"/account/keys/{key.pk}/revoke/", follow=True)

        assert find_key(text) is None
        assert "The key “Old one” is revoked." in answer.content.decode()
        assert key.public_id not in answer.content.decode()
        assert "key_revoked" in kinds(alice)
        assert visitor.post(f"/account/keys/{key.pk}/revoke/").status_code == 404

    def test_anothers_is_answered_like_a_missing_one(self, visitor, bob):
        key, text = create_key(bob, "Bob's secret name")

        answers = [visitor.post(f"/account/keys/{pk}/revoke/") for pk in (key.pk, key.pk + 1000)]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert without_reference(answers[0]) == without_reference(answers[1])
        assert find_key(text) == key
        assert key.public_id not in page_of(visitor)


class TestUsage:
    def test_it_is_summed_by_model_and_by_key(self, visitor, alice, bob):
        key, _ = create_key(alice, "Notebook")
        use(alice, model="gpt", key=key)
        use(alice, model="claude", tokens=2_000_000)
        use(bob, model="bobs-model")

        page = page_of(visitor)

        assert re.search(r'"row">gpt</th><td>1</td><td>1,000</td><td>1,000</td><td>0.002</td>', page)
        assert re.search(r'"row">claude</th><td>1</td><td>2,000,000</td><td>2,000,000</td><td>4</td>', page)
        assert re.search(
            r'"row">Total</th><td>2</td><td>2,001,000</td><td>2,001,000</td><td>4.002</td>', page
        )
        assert re.search(r'"row">Notebook</th><td>1</td>', page)
        assert re.search(r'"row">Without a key</th><td>1</td>', page)
        assert "bobs-model" not in page

    def test_a_revoked_key_keeps_its_name(self, visitor, alice):
        key, _ = create_key(alice, "Gone")
        use(alice, key=key)
        key.revoke()

        assert re.search(r'"row">Gone</th>', page_of(visitor))

    def test_estimates_are_marked(self, visitor, alice):
        use(alice, estimated=True)

        page = page_of(visitor)

        assert re.search(r"<td>≈ 1,000</td>", page)
        assert "these are our own count" in page

    def test_a_budget_shows_what_is_left(self, visitor, alice):
        User.objects.filter(pk=alice.pk).update(monthly_budget_micro=10_000)
        use(alice)

        page = page_of(visitor)

        assert "0.002 of 0.01 USD spent, 0.008 left." in page
        assert re.search(r'<meter min="0" max="10000" value="2000"', page)

    def test_without_anything_it_says_so(self, visitor):
        page = page_of(visitor)

        assert "Nothing was used in this month." in page
        assert "<meter" not in page

    def test_other_months_are_a_link_away(self, visitor, alice):
        this_month = money.this_month()
        last_month = (this_month - timedelta(days=1)).replace(day=1)
        User.objects.filter(pk=alice.pk).update(date_joined=datetime(2025, 1, 1, tzinfo=UTC))
        use(alice)

        page = page_of(visitor)
        before = page_of(visitor, f"/account/?month={last_month:%Y-%m}")

        assert f'href="?month={last_month:%Y-%m}#usage"' in page
        assert "Nothing was used in this month." in before
        assert f'href="?month={this_month:%Y-%m}#usage"' in before

    @pytest.mark.parametrize("month", ["nonsense", "2026-13", "9999-12", "0000-01", "2026-01-01"])
    def test_nonsense_is_this_month(self, month, visitor, alice):
        use(alice)

        assert '"row">gpt<' in page_of(visitor, f"/account/?month={month}")


class TestTraining:
    """Nothing that somebody writes is trained on unless they say so; and since when is kept."""

    def set(self, visitor, allowed):
        answer = visitor.post("/account/training/", {"allowed": allowed})
        assert (answer.status_code, answer["Location"]) == (302, "/account/#training")

    def test_it_is_off_until_it_is_allowed(self, visitor, alice):
        assert alice.training_consent_at is None
        assert "Allow training" in page_of(visitor)

        before = timezone.now()
        self.set(visitor, "yes")
        alice.refresh_from_db()
        assert before <= alice.training_consent_at <= timezone.now()
        page = page_of(visitor)
        assert "Allowed since" in page
        assert alice.training_consent_at.isoformat() in page

    def test_it_is_taken_back(self, visitor, alice):
        self.set(visitor, "yes")
        self.set(visitor, "no")
        alice.refresh_from_db()
        assert alice.training_consent_at is None
        assert "Allowed since" not in page_of(visitor)

    def test_said_twice_it_counts_since_the_first_time(self, visitor, alice):
        self.set(visitor, "yes")
        since = User.objects.get(pk=alice.pk).training_consent_at
        self.set(visitor, "yes")
        assert User.objects.get(pk=alice.pk).training_consent_at == since

    def test_each_change_is_in_the_audit_log(self, visitor, alice):
        for allowed in ("yes", "yes", "no", "nonsense"):
            self.set(visitor, allowed)
        events = AuditEvent.objects.filter(kind="consent_changed").order_by("created_at")
        assert [event.data for event in events] == [{"allowed": True}, {"allowed": False}]
        assert {event.subject for event in events} == {alice.pseudonym}

    def test_it_is_nobody_elses(self, visitor, bob):
        self.set(visitor, "yes")
        bob.refresh_from_db()
        assert bob.training_consent_at is None

    def test_it_is_part_of_what_is_downloaded(self, visitor, alice):
        self.set(visitor, "yes")
        data = json.loads(visitor.post("/account/download/").content)
        alice.refresh_from_db()
        assert datetime.fromisoformat(
            data["profile"]["training_consent_at"]
        ) == alice.training_consent_at.replace(
            microsecond=alice.training_consent_at.microsecond // 1000 * 1000
        )


class TestData:
    def test_it_is_downloaded_as_one_file(self, visitor, alice):
        _, text = create_key(alice, "Notebook")

        answer = visitor.post("/account/download/")

        today = timezone.now().date().isoformat()
        assert answer["Content-Disposition"] == f'attachment; filename="llmsite-alice-{today}.json"'
        assert answer["Content-Type"] == "application/json"
        data = json.loads(answer.content)
        assert data["profile"]["username"] == "alice"
        assert data["api_keys"][0]["name"] == "Notebook"
        assert text.split("_", 2)[2] not in answer.content.decode()
        assert "data_downloaded" in kinds(alice)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"username": "alice", "password": "wrong"}, "This is not your password."),
            ({"username": "ALICE", "password": PASSWORD}, "This is not your username."),
            ({"password": PASSWORD}, "This field is required."),
        ],
    )
    def test_an_account_is_not_deleted_by_mistake(self, values, reason, visitor, alice):
        answer = visitor.post("/account/delete/", values)

        assert answer.status_code == 400
        assert reason in answer.content.decode()
        assert is_live(visitor.pair)

    def test_the_last_superuser_stays(self, client, staff):
        sign_in_client(client, staff)

        answer = client.post("/account/delete/", {"username": "staff", "password": PASSWORD})

        assert answer.status_code == 409
        assert "the only active superuser" in answer.content.decode()
        assert User.objects.filter(pk=staff.pk, is_active=True).exists()


@pytest.mark.django_db(transaction=True)
def test_an_account_is_deleted_for_good(client, alice):
    pair = sign_in_client(client, alice)
    _, text = create_key(alice, "Notebook")

    answer = client.post("/account/delete/", {"username": "alice", "password": PASSWORD})

    assert answer.status_code == 200
    assert "Your account is deleted" in answer.content.decode()
    assert answer.cookies[settings.ACCESS_COOKIE]["max-age"] == 0
    assert answer.cookies[settings.REFRESH_COOKIE]["max-age"] == 0
    assert not User.objects.exists()
    assert find_key(text) is None
    assert not is_live(pair)
    assert client.get("/account/")["Location"] == "/login/?next=/account/"
