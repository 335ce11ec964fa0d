"""Who has people erased: the admin and the command, which ask again and say what came of it."""

import json
from io import StringIO
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts import erasure
from accounts.keys import create_key
from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from conftest import PASSWORD, sign_in_client
from llmsite.core.errors import ErasureUnfinished


def fail(user):
    raise ErasureUnfinished(detail="Redis is away")


@pytest.mark.django_db
def test_the_admin_erases_after_asking_and_keeps_no_name_in_its_log(client, staff, alice):
    sign_in_client(client, staff)
    page = reverse("admin:accounts_user_delete", args=[alice.pk])

    assert "alice" in client.get(page).content.decode()
    assert User.objects.filter(username="alice").exists()
    for password in ("", "wrong"):
        assert client.post(page, {"password": password}).status_code == 200
        assert User.objects.filter(username="alice").exists()
    assert client.post(page, {"password": PASSWORD}).status_code == 302

    assert not User.objects.filter(username="alice").exists()
    assert not LogEntry.objects.exists()
    event = AuditEvent.objects.get(kind=AuditKind.ERASED)
    assert (event.actor, event.subject) == (staff.pseudonym, alice.pseudonym)


@pytest.mark.django_db
def test_of_the_admin_log_goes_what_is_about_the_rows_alone(staff, alice, bob, monkeypatch):
    monkeypatch.setattr(erasure, "IDS_AT_ONCE", 2)
    people = [alice, bob, staff, User.objects.create(username="dora")]
    for user in people:
        LogEntry.objects.log_actions(staff.pk, [user], 2, change_message="changed")

    assert erasure.erase_admin_log(User.objects.exclude(pk=bob.pk)) == 3

    assert [entry.object_repr for entry in LogEntry.objects.all()] == ["bob"]


@pytest.mark.django_db
def test_the_admin_says_why_the_last_superuser_stays(client, staff):
    sign_in_client(client, staff)

    page = reverse("admin:accounts_user_delete", args=[staff.pk])
    answer = client.post(page, {"password": PASSWORD}, follow=True)

    assert "only active superuser" in answer.content.decode()
    assert User.objects.filter(pk=staff.pk, is_active=True).exists()


@pytest.mark.django_db
def test_an_erasure_that_failed_says_so_and_the_command_finishes_it(client, staff, alice, monkeypatch):
    sign_in_client(client, staff)
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "_erasers", [fail])
        page = reverse("admin:accounts_user_delete", args=[alice.pk])
        answer = client.post(page, {"password": PASSWORD}, follow=True)
        with pytest.raises(CommandError, match="not all of it could be erased"):
            call_command("erase_user", "alice", "--yes")
    assert answer.redirect_chain == [(reverse("admin:accounts_user_change", args=[alice.pk]), 302)]
    assert "not all of it could be erased" in answer.content.decode()

    call_command("erase_user", "alice", "--yes", stdout=StringIO())

    assert not User.objects.filter(pk=alice.pk).exists()


@pytest.mark.django_db
def test_the_admin_has_no_other_way_to_delete_people(client, staff, alice):
    sign_in_client(client, staff)
    chosen = {"action": "delete_selected", "_selected_action": [alice.pk], "post": "yes"}

    client.post(reverse("admin:accounts_user_changelist"), chosen)

    assert User.objects.filter(pk=alice.pk).exists()


@pytest.mark.django_db
def test_the_command_gives_a_receipt(alice):
    create_key(alice, "laptop")
    out = StringIO()

    call_command("erase_user", "alice", "--yes", "--json", stdout=out)

    receipt = json.loads(out.getvalue())
    assert UUID(receipt["pseudonym"]) == alice.pseudonym
    assert receipt["counts"]["api_keys"] == 1
    assert AuditEvent.objects.get(kind=AuditKind.ERASED).actor is None


@pytest.mark.django_db
@pytest.mark.parametrize("typed", ["alice", "bob"])
def test_the_command_asks_for_the_name_again(typed, alice, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: typed)

    if typed == "alice":
        call_command("erase_user", "alice", stdout=StringIO())
    else:
        with pytest.raises(CommandError, match="Nothing was erased"):
            call_command("erase_user", "alice")

    assert User.objects.filter(pk=alice.pk).exists() == (typed != "alice")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("nobody", "--yes"), "no user named nobody"),
        (("staff", "--yes"), "only active superuser"),
        (("staff",), "--yes"),
        ((), "required"),
        (("staff", "--unfinished"), "not allowed with"),
    ],
)
def test_the_command_refuses_in_one_line(args, reason, staff):
    with pytest.raises(CommandError, match=reason):
        call_command("erase_user", *args)

    assert User.objects.filter(username="staff", is_active=True).exists()
