"""The audit log: what it keeps, what it never keeps, and that nobody rewrites it."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.audit import acting, as_json_lines, record
from accounts.keys import create_key, revoke_key
from accounts.limits.addresses import current_network
from accounts.models import ApiKey, AuditEvent, RefreshToken
from accounts.models.audit import AuditKind
from accounts.tokens import REUSE_GRACE
from conftest import PASSWORD, sign_in_client
from llmsite.core.logs import request_id

pytestmark = pytest.mark.django_db


def lines_of(*args):
    out = StringIO()
    call_command("export_audit", *args, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_has_pseudonyms_the_network_and_the_request(alice, bob):
    token, network = request_id.set("req-1"), current_network.set("203.0.113.0/24")
    try:
        event = record(AuditKind.ENABLED, subject=alice, actor=bob, count=3)
    finally:
        request_id.reset(token)
        current_network.reset(network)

    event.refresh_from_db()
    assert (event.subject, event.actor) == (alice.pseudonym, bob.pseudonym)
    assert (event.network, event.request_id, event.data) == ("203.0.113.0/24", "req-1", {"count": 3})


def test_every_door_tells_where_it_was_reached_from(client, alice):
    def post(path, body=None, **headers):
        return client.post(path, body or {}, content_type="application/json", REMOTE_ADDR="203.0.113.77")

    credentials = {"username": "alice", "password": PASSWORD}
    first = post("/api/auth/token", credentials).json()["refresh"]
    post("/api/auth/login", {**credentials, "password": "wrong"})
    assert post("/api/auth/login", credentials).status_code == 200
    key = post("/api/auth/keys", {"name": "laptop"}).json()["id"]
    client.delete(f"/api/auth/keys/{key}", REMOTE_ADDR="203.0.113.77")
    assert post("/api/auth/logout").status_code == 204
    post("/api/auth/refresh", {"refresh": first})
    RefreshToken.objects.update(used_at=timezone.now() - 2 * REUSE_GRACE)
    assert post("/api/auth/refresh", {"refresh": first}).status_code == 401

    networks = dict(AuditEvent.objects.values_list("kind", "network"))
    told = {"signed_in", "sign_in_failed", "key_created", "key_revoked", "signed_out", "token_replayed"}
    assert networks == dict.fromkeys(told, "203.0.113.0/24")


def test_who_acts_is_the_subject_unless_somebody_else_does(alice, bob):
    assert record(AuditKind.SIGNED_IN, subject=alice).actor == alice.pseudonym
    assert record(AuditKind.SIGN_IN_FAILED, subject=alice, actor=None).actor is None
    with acting(bob):
        assert record(AuditKind.DISABLED, subject=alice).actor == bob.pseudonym
        with acting(None):
            assert record(AuditKind.DISABLED, subject=alice).actor is None
    assert record(AuditKind.SIGN_IN_FAILED, subject=None).subject is None


def test_an_event_goes_with_the_change_that_it_tells(alice):
    with transaction.atomic():
        create_key(alice, "laptop")
        transaction.set_rollback(True)

    assert not ApiKey.objects.exists()
    assert not AuditEvent.objects.exists()


def test_keys_are_told_by_their_public_id_alone(alice, staff):
    key, text = create_key(alice, "alice's laptop", scopes=["chat"])
    assert revoke_key(key, actor=staff)
    assert not revoke_key(key, actor=staff)

    made, ended = AuditEvent.objects.order_by("created_at")
    assert (made.kind, made.actor, made.data) == (
        AuditKind.KEY_CREATED,
        alice.pseudonym,
        {"key": key.public_id, "scopes": ["chat"]},
    )
    assert (ended.kind, ended.actor, ended.subject) == (
        AuditKind.KEY_REVOKED,
        staff.pseudonym,
        alice.pseudonym,
    )
    assert "laptop" not in str(AuditEvent.objects.values())
    assert text not in str(AuditEvent.objects.values())


def test_a_key_ended_by_the_api_is_recorded(client, alice):
    key, _ = create_key(alice, "laptop")
    sign_in_client(client, alice)

    assert client.delete(f"/api/auth/keys/{key.pk}", REMOTE_ADDR="203.0.113.77").status_code == 204

    event = AuditEvent.objects.get(kind=AuditKind.KEY_REVOKED)
    assert (event.actor, event.network, bool(event.request_id)) == (alice.pseudonym, "203.0.113.0/24", True)


def test_an_event_is_never_changed(alice):
    event = record(AuditKind.SIGNED_IN, subject=alice)

    with pytest.raises(TypeError):
        event.save()
    with pytest.raises(TypeError):
        event.delete()


def test_the_export_has_every_event_once_oldest_first(alice, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(audit, "PAGE", 2)
    moment = timezone.now()
    # Several at one moment: they are told apart by their ids.
    made = [
        AuditEvent.objects.create(kind=AuditKind.SIGNED_IN, created_at=moment + timedelta(seconds=at // 3))
        for at in range(7)
    ]

    with django_assert_num_queries(5):
        lines = list(as_json_lines(AuditEvent.objects.all()))

    exported = [json.loads(line) for line in lines]
    assert {row["id"] for row in exported} == {str(event.pk) for event in made}
    assert len(exported) == 7
    assert [row["at"] for row in exported] == sorted(row["at"] for row in exported)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)


def test_the_command_exports_what_was_asked_for(alice, bob, tmp_path):
    old = AuditEvent.objects.create(
        kind=AuditKind.SIGNED_IN, created_at=timezone.now() - timedelta(days=3), data={"note": "ñ\n"}
    )
    new = record(AuditKind.DISABLED, subject=alice, actor=bob)
    yesterday = (timezone.now() - timedelta(days=1)).date().isoformat()

    assert [row["id"] for row in lines_of()] == [str(old.pk), str(new.pk)]
    assert [row["id"] for row in lines_of("--since", yesterday)] == [str(new.pk)]
    assert [row["id"] for row in lines_of("--before", yesterday)] == [str(old.pk)]
    assert [row["id"] for row in lines_of("--kind", "disabled")] == [str(new.pk)]
    call_command("export_audit", "--output", str(tmp_path / "audit.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert rows == lines_of()
    assert rows[0]["data"] == {"note": "ñ\n"}


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--since", "soon"), "no date"),
        (("--kind", "gossip"), "invalid choice"),
        (("--output", "/nowhere/audit.jsonl"), "cannot be written"),
    ],
)
def test_the_command_refuses_in_one_line(args, reason):
    with pytest.raises(CommandError, match=reason):
        lines_of(*args)
