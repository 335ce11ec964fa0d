"""The audit log and the ledger in the admin: found, filtered, downloaded, and only read."""

import json
from decimal import Decimal
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.audit import record
from accounts.keys import create_key
from accounts.ledger import reserve, settle
from accounts.models import Team
from accounts.models.audit import AuditKind
from accounts.tokens import sign_in
from conftest import sign_in_client

pytestmark = pytest.mark.django_db


def spend(user):
    """One call in the ledger."""
    call = uuid4()
    reserve(
        call,
        payer=user,
        model="scripted",
        provider="scripted",
        input_price=Decimal(1),
        output_price=Decimal(2),
        input_tokens=3,
        input_tokens_at_most=5,
        output_tokens_at_most=5,
    )
    settle(call, input_tokens=3, output_tokens=5, estimated=False)


def listed(client, **query):
    page = client.get(reverse("admin:accounts_auditevent_changelist"), query)
    assert page.status_code == 200
    return page


def test_the_log_shows_the_names_of_today_and_what_is_left_of_those_who_went(client, admin, alice, bob):
    record(AuditKind.DISABLED, subject=alice, actor=bob)
    gone = alice.pseudonym
    alice.delete()
    bob.username = "robert"
    bob.save()
    sign_in_client(client, admin)

    page = listed(client, kind__exact="disabled").content.decode()

    assert "robert" in page
    assert str(gone)[:8] in page


def test_the_log_is_searched_by_username_and_pseudonym(client, admin, alice, bob):
    mine = record(AuditKind.ENABLED, subject=alice)
    record(AuditKind.ENABLED, subject=bob)
    sign_in_client(client, admin)

    for text in ("alice", "ALICE", str(alice.pseudonym)):
        found = listed(client, q=text, kind__exact="enabled").context["cl"].result_list
        assert [event.pk for event in found] == [mine.pk]
    assert not listed(client, q="nobody").context["cl"].result_list


@pytest.mark.parametrize("query", [{"kind__exact": "enabled"}, {"created_at__year": "2020"}])
def test_the_log_is_filtered(query, client, admin, alice):
    record(AuditKind.ENABLED, subject=alice)
    sign_in_client(client, admin)

    found = listed(client, **query).context["cl"].result_list

    assert [event.kind for event in found] == (["enabled"] if "kind__exact" in query else [])


def test_the_log_is_only_read(client, staff, alice):
    event = record(AuditKind.ENABLED, subject=alice)
    sign_in_client(client, staff)
    page = reverse("admin:accounts_auditevent_change", args=[event.pk])

    assert client.get(page).status_code == 200
    assert client.post(page, {"kind": "disabled"}).status_code == 403
    assert client.post(reverse("admin:accounts_auditevent_add"), {}).status_code == 403
    delete = reverse("admin:accounts_auditevent_delete", args=[event.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", ["auditevent", "ledgerentry", "user", "team", "session", "apikey"])
def test_a_longer_list_costs_no_more_queries(name, client, admin, make_user):
    sign_in_client(client, admin)
    url = reverse(f"admin:accounts_{name}_changelist")

    def add(number):
        user = make_user(f"user{number}")
        Team.objects.create(name=f"Team {number}").members.add(user)
        create_key(user, "laptop")
        sign_in(user)
        record(AuditKind.ENABLED, subject=user, actor=admin)
        spend(user)

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url).status_code == 200
        return len(queries)

    add(0)
    client.get(url)
    few = count()
    for number in range(1, 6):
        add(number)

    assert count() == few
    assert few <= 12


async def downloaded(user, url, data=None):
    """The lines of a file that is streamed by the event loop, as an ASGI server would send it."""
    client = AsyncClient()
    await sync_to_async(sign_in_client)(client, user)
    answer = await (client.post(url, data) if data else client.get(url))
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    body = b"".join([piece async for piece in answer])
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.django_db(transaction=True)
async def test_the_log_is_downloaded_as_it_is_filtered(staff, alice):
    for _ in range(3):
        await sync_to_async(record)(AuditKind.ENABLED, subject=alice)
    other = await sync_to_async(record)(AuditKind.DISABLED, subject=alice)

    lines = await downloaded(staff, reverse("admin:accounts_auditevent_export") + "?kind__exact=enabled")
    chosen = await downloaded(
        staff,
        reverse("admin:accounts_auditevent_changelist"),
        {"action": "export_selected", "_selected_action": [str(other.pk)]},
    )

    assert [line["kind"] for line in lines] == ["enabled"] * 3
    assert [line["id"] for line in chosen] == [str(other.pk)]


@pytest.mark.parametrize("role", ["curator", "operator"])
def test_the_log_is_downloaded_by_those_only_who_may_see_it(role, client, alice):
    alice.groups.add(Group.objects.get(name=role))
    sign_in_client(client, alice)

    assert client.get(reverse("admin:accounts_auditevent_export")).status_code == 403
