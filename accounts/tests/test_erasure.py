"""Erasing a person: nothing names them afterwards, in no store, and nobody else loses anything."""

import asyncio
import threading
from io import StringIO
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import Client
from django.urls import reverse
from redis import Redis

from accounts import erasure
from accounts.audit import record
from accounts.erasure import erase, unfinished
from accounts.keys import create_key
from accounts.models import ApiKey, AuditEvent, LedgerEntry, Session, Team, User
from accounts.models.audit import AuditKind
from accounts.tests.test_admin import NO_TEAMS
from accounts.tokens import sign_in
from conftest import PASSWORD, bearer, sign_in_client
from inference import generations
from inference.ask import Ask
from inference.live import live_answers
from inference.mirror import event_mirror
from inference.models import Conversation, Generation, Message
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.conftest import settled  # noqa: F401 - a fixture
from inference.tests.doors import post
from inference.tests.waiting import until
from llmsite.core.errors import ErasureUnfinished, LastAdministrator

MARK = "Xq7Marker"
"""Stands in everything that the person of these tests is named by, has written or was answered."""


# --- All stores, searched ------------------------------------------------------------------------


def places_of(mark):
    """Where `mark` is found: tables of the database, its files, and keys of Redis."""
    return {*_tables_with(mark), *_files_with(mark), *_redis_keys_with(mark)}


def _tables_with(mark):
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            if any(mark.lower() in str(value).lower() for row in cursor.fetchall() for value in row):
                yield table


def _files_with(mark):
    if connection.vendor == "sqlite":
        name = connection.settings_dict["NAME"]
        for path in Path(name).parent.glob(f"{Path(name).name}*"):
            if mark.encode().lower() in path.read_bytes().lower():
                yield path.name.removeprefix(Path(name).name) or "file"


def _redis_keys_with(mark):
    if not settings.REDIS_URL:
        return
    read = {"string": "get", "stream": "xrange", "hash": "hgetall", "set": "smembers"}
    with Redis.from_url(settings.REDIS_URL) as redis:
        for key in redis.scan_iter():
            kind = redis.type(key).decode()
            if kind in read:
                value = getattr(redis, read[kind])(key)
            else:
                value = {"list": redis.lrange, "zset": redis.zrange}[kind](key, 0, -1)
            if mark.lower() in f"{key} {value}".lower():
                yield "redis " + key.decode().rpartition(":")[0]


def rows_of(user):
    """All that belongs to `user`, as it is stored."""
    querysets = (
        User.objects.filter(pk=user.pk),
        Session.objects.filter(user=user),
        ApiKey.objects.filter(user=user),
        Team.objects.filter(members=user),
        Conversation.objects.filter(owner=user),
        Message.objects.filter(conversation__owner=user),
        Generation.objects.filter(user=user),
        LedgerEntry.objects.filter(account=user.pseudonym),
        AuditEvent.objects.filter(subject=user.pseudonym),
    )
    return [list(rows.order_by("pk").values()) for rows in querysets]


@pytest.fixture
def marked(transactional_db, make_user, staff, bob):
    """Somebody who has left their mark in every table, by the doors that people use."""
    user = make_user(
        f"{MARK}-name", email=f"{MARK}@example.org", first_name=f"{MARK}-first", last_name=f"{MARK}-last"
    )
    Team.objects.create(name=f"Only {MARK}").members.add(user)
    Team.objects.create(name="Both").members.add(user, bob)
    create_key(user, f"Key of {MARK}")
    browser, operator = Client(headers={"User-Agent": f"Browser of {MARK}"}), Client()
    for password in ("wrong", PASSWORD):
        credentials = {"username": user.username, "password": password}
        browser.post("/api/auth/token", credentials, content_type="application/json")
    sign_in_client(operator, staff)
    form = {
        "username": user.username,
        "email": user.email,
        "first_name": f"{MARK}-changed",
        "is_active": "on",
    }
    form |= {"date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}
    form |= {"groups": [role.pk for role in user.groups.all()], **NO_TEAMS}
    changed = operator.post(reverse("admin:accounts_user_change", args=[user.pk]), form)
    assert changed.status_code == 302, changed.context["adminform"].form.errors
    return user


def read_by_staff(staff, user):
    client = Client()
    sign_in_client(client, staff)
    page = reverse("admin:inference_conversation_read", args=[Conversation.objects.get(owner=user).pk])
    assert MARK in client.post(page, {"reason": "A complaint was filed."}).content.decode()


async def ask(user, text):
    scripted.play(Script(pieces=("Hello, ", text)))
    question = {"prompt": f"I am {text}", "system": f"You talk to {text}", "stop": [f"Stop, {text}"]}
    answer = await post(user, "/api/predict", {**question, "model": "scripted"})
    assert answer.status_code == 200, answer.content


def erase_in_thread(user, actor):
    """As a request does it: in a thread of its own, beside the event loop that writes answers."""
    try:
        return erase(user, actor=actor)
    finally:
        connections.close_all()


@pytest.mark.flows
@pytest.mark.usefixtures("models", "settled")
async def test_nothing_names_a_person_after_their_erasure(marked, bob, staff, caplog):
    await ask(marked, MARK)
    await ask(bob, "Bob")
    await sync_to_async(read_by_staff)(staff, marked)
    scripted.play(Script(pieces=(f"{MARK} ",), delay=0.02, repeat=True))
    await generations.start(Ask(user=marked, door="test", prompt=f"Go on, {MARK}", model="scripted"))
    await until(lambda: scripted.calls and scripted.calls[-1].pieces > 3)
    assert await sync_to_async(places_of)(MARK) >= {
        "accounts_user",
        "accounts_team",
        "accounts_session",
        "accounts_apikey",
        "django_admin_log",
        "inference_conversation",
        "inference_message",
        "inference_generation",
        *({"redis llmsite:events"} if settings.REDIS_URL else ()),
        *({"-wal"} if connection.vendor == "sqlite" else ()),
    }
    bobs = await sync_to_async(rows_of)(bob)

    receipt = await asyncio.to_thread(erase_in_thread, marked, staff)

    assert scripted.calls[-1].outcome == "closed"
    await until(lambda: not live_answers)
    await event_mirror.flush()
    assert await sync_to_async(places_of)(MARK) == set()
    assert MARK.lower() not in caplog.text.lower()
    assert await sync_to_async(rows_of)(bob) == bobs
    await sync_to_async(check_what_is_left)(marked, staff, receipt)


def check_what_is_left(user, staff, receipt):
    counts = {name: count for name, count in receipt.counts.items() if count}
    # In this process's memory, and perhaps in Redis.
    assert counts.pop("cached_answers") >= 1
    assert counts == {
        **({"event_streams": 1} if settings.REDIS_URL else {}),
        "answers": 2,
        "messages": 4,
        "conversations": 2,
        "admin_log": 1,
        "refresh_tokens": 1,
        "sign_ins": 1,
        "api_keys": 2,
        "teams_of_nobody_else": 1,
        "team_memberships": 1,
        "roles": 1,
        "accounts": 1,
    }
    event = AuditEvent.objects.get(kind=AuditKind.ERASED)
    assert (event.subject, event.actor) == (user.pseudonym, staff.pseudonym)
    assert event.data == {"counts": receipt.counts}
    # What was spent and done is still known, of nobody in particular.
    assert LedgerEntry.objects.filter(account=user.pseudonym).count() == 2
    kinds = set(AuditEvent.objects.filter(subject=user.pseudonym).values_list("kind", flat=True))
    assert kinds >= {"sign_in_failed", "signed_in", "key_created", "chat_read", "disabled", "erased"}


# --- The steps -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_one_who_is_erased_is_out_at_once(client, alice, staff):
    headers = bearer(alice)
    sign_in_client(client, alice)
    assert client.get("/api/auth/me").status_code == 200

    erase(alice, actor=staff)

    assert client.get("/api/auth/me").status_code == 401
    assert client.get("/api/auth/me", headers=headers).status_code == 401
    credentials = {"username": "alice", "password": PASSWORD}
    answer = client.post("/api/auth/token", credentials, content_type="application/json")
    assert answer.status_code == 401


def fail(user):
    raise ErasureUnfinished(detail="Redis is away")


@pytest.mark.django_db
def test_an_erasure_that_failed_has_locked_out_and_is_run_again(alice, staff, monkeypatch):
    create_key(alice, "laptop")
    sign_in(alice)

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "_erasers", [fail])
        with pytest.raises(ErasureUnfinished):
            erase(alice, actor=staff)

    alice = User.objects.get(pk=alice.pk)
    assert not alice.is_active
    assert not Session.objects.filter(revoked_at=None).exists()
    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert not AuditEvent.objects.filter(kind=AuditKind.ERASED).exists()

    erase(alice, actor=staff)

    assert not User.objects.filter(pk=alice.pk).exists()
    assert AuditEvent.objects.filter(kind=AuditKind.ERASED).count() == 1
    assert AuditEvent.objects.filter(kind=AuditKind.DISABLED).count() == 1


@pytest.mark.django_db
def test_what_is_gone_already_is_no_event(alice, staff):
    stale = User.objects.get(pk=alice.pk)
    erase(alice, actor=staff)
    events = AuditEvent.objects.count()

    receipt = erase(stale, actor=staff)

    assert not any(receipt.counts.values())
    assert AuditEvent.objects.count() == events


@pytest.mark.django_db
def test_an_account_that_goes_meanwhile_is_not_counted_twice(alice, staff, monkeypatch):
    def overtaken(user):
        User.objects.filter(pk=user.pk).delete()
        return {"messages": 3}

    monkeypatch.setattr(erasure, "_erasers", [overtaken])

    receipt = erase(alice, actor=staff)

    assert {name: count for name, count in receipt.counts.items() if count} == {"messages": 3}
    assert AuditEvent.objects.get(kind=AuditKind.ERASED).data == {"counts": receipt.counts}


@pytest.mark.django_db
def test_unfinished_erasures_are_known_and_finished(make_user, staff, monkeypatch, caplog):
    people = {name: make_user(name) for name in ("alice", "bob", "charlie", "disabled", "active")}
    # Staff had disabled one of those who are erased, and enabled another again.
    User.objects.filter(username__in=("bob", "disabled")).update(is_active=False)
    record(AuditKind.DISABLED, subject=people["disabled"], actor=staff)
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "_erasers", [fail])
        for name in ("alice", "bob", "charlie"):
            with pytest.raises(ErasureUnfinished):
                erase(User.objects.get(username=name), actor=staff)
    assert caplog.text.count("erasure_unfinished") == 3
    assert "Redis is away" in caplog.text
    assert [user.username for user in unfinished()] == ["alice", "bob", "charlie"]
    User.objects.filter(username="charlie").update(is_active=True)
    assert [user.username for user in unfinished()] == ["alice", "bob"]
    record(AuditKind.ENABLED, subject=people["charlie"], actor=staff)
    User.objects.filter(username="charlie").update(is_active=False)

    out = StringIO()
    call_command("erase_user", "--unfinished", "--yes", stdout=out)

    assert out.getvalue().count("Erased: ") == 2
    left = set(User.objects.values_list("username", flat=True))
    assert left == {"charlie", "disabled", "active", "staff"}
    out = StringIO()
    call_command("erase_user", "--unfinished", stdout=out)
    assert out.getvalue() == "No erasure is unfinished.\n"


@pytest.mark.django_db
def test_one_that_fails_again_does_not_keep_the_others_from_their_end(alice, bob, staff, monkeypatch):
    monkeypatch.setattr(erasure, "_erasers", [fail])
    for user in (alice, bob):
        with pytest.raises(ErasureUnfinished):
            erase(user, actor=staff)
    monkeypatch.setattr(erasure, "_erasers", [lambda user: fail(user) if user == alice else {}])
    errors = StringIO()

    with pytest.raises(CommandError, match="1 of 2 erasures are still unfinished"):
        call_command("erase_user", "--unfinished", "--yes", stdout=StringIO(), stderr=errors)

    assert errors.getvalue().startswith("alice: ")
    assert [user.username for user in unfinished()] == ["alice"]
    assert not User.objects.filter(pk=bob.pk).exists()


@pytest.mark.django_db
def test_the_last_superuser_cannot_go(staff, make_user):
    create_key(staff, "deploy")
    make_user("former", is_superuser=True, is_active=False)

    with pytest.raises(LastAdministrator):
        erase(staff, actor=staff)

    staff.refresh_from_db()
    assert staff.is_active
    assert ApiKey.objects.get().revoked_at is None
    make_user("second", is_superuser=True)
    erase(staff, actor=staff)
    assert not User.objects.filter(username="staff").exists()


@pytest.mark.django_db(transaction=True)
def test_of_the_last_two_superusers_one_stays_though_both_go_at_once(make_user):
    first, second = (make_user(name, is_superuser=True) for name in ("first", "second"))
    outcome = []

    def go():
        try:
            outcome.append(erase_in_thread(second, second))
        except LastAdministrator as error:
            outcome.append(error)

    thread = threading.Thread(target=go)
    with transaction.atomic():
        erasure.require_another_administrator(first)
        thread.start()
        # Time enough to see the first one still there, for code that does not wait for us.
        thread.join(0.5)
        User.objects.filter(pk=first.pk).update(is_active=False)
    thread.join()

    assert isinstance(outcome[0], LastAdministrator)
    assert User.objects.get(is_superuser=True, is_active=True) == second


@pytest.mark.django_db
def test_a_team_stays_while_it_has_somebody(alice, bob, staff):
    both, own = Team.objects.create(name="Both"), Team.objects.create(name="Own")
    both.members.add(alice, bob)
    own.members.add(alice)

    erase(alice, actor=staff)

    assert [team.name for team in Team.objects.all()] == ["Both"]
    assert [user.username for user in both.members.all()] == ["bob"]


def test_the_data_map_names_every_table():
    text = (settings.BASE_DIR / "docs" / "data-map.md").read_text()
    stores = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    named = {name for store in stores for name in store.replace("`", " ").replace(",", " ").split()}
    models = {model._meta.label for model in apps.get_models(include_auto_created=True)}

    assert models - named == set()
    assert {
        name for name in named if "." in name and name[0].islower() and name[-1].isalpha()
    } - models == set()
