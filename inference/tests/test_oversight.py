"""Staff and what others wrote: nobody sees it in the admin, but for one page that leaves a trace."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from conftest import sign_in_client
from inference.models import Conversation, Generation, Message

pytestmark = pytest.mark.django_db

SECRET = "the launch code"
REASON = "A complaint was filed about it."


@pytest.fixture
def conversation(alice):
    return write(alice)


def write(user):
    """A conversation in which every text says SECRET."""
    conversation = Conversation.objects.create(owner=user, title=f"About {SECRET}")
    question = Message.objects.create(conversation=conversation, role="user", content=f"{SECRET}?")
    answer = Message.objects.create(
        conversation=conversation,
        role="assistant",
        content=f"<script>alert('{SECRET}')</script>\nline two",
        parent=question,
    )
    Generation.objects.create(
        user=user,
        message=answer,
        status="failed",
        door="api",
        model_alias="m",
        provider="p",
        parameters={"stop": [SECRET]},
        error_data={"field": SECRET},
    )
    return conversation


@pytest.fixture
def reader(make_user):
    user = make_user("reader")
    user.groups.add(Group.objects.get(name="admin"))
    return user


def read_url(conversation):
    return reverse("admin:inference_conversation_read", args=[conversation.pk])


def reads():
    return list(AuditEvent.objects.filter(kind=AuditKind.CHAT_READ))


def admin_pages(conversation):
    generation = Generation.objects.get(message__conversation=conversation)
    for name, row in (("conversation", conversation), ("generation", generation)):
        yield reverse(f"admin:inference_{name}_changelist")
        yield reverse(f"admin:inference_{name}_change", args=[row.pk])
        yield reverse(f"admin:inference_{name}_history", args=[row.pk])
        yield reverse(f"admin:inference_{name}_delete", args=[row.pk])
    yield reverse("admin:accounts_user_change", args=[conversation.owner_id])
    yield reverse("admin:accounts_user_delete", args=[conversation.owner_id])


def test_no_page_of_the_admin_shows_what_was_said(client, staff, conversation):
    sign_in_client(client, staff)

    statuses = []
    for url in admin_pages(conversation):
        answer = client.get(url)
        statuses.append(answer.status_code)
        assert SECRET not in answer.content.decode(), url
    assert statuses.count(200) == 8
    assert SECRET not in client.get(read_url(conversation)).content.decode()
    assert reads() == []


@pytest.mark.parametrize("beginning", ["About", "Something else"])
@pytest.mark.parametrize(
    ("name", "field"),
    [("conversation", "title"), ("generation", "parameters__stop__0"), ("generation", "message__content")],
)
def test_no_filter_of_ones_own_tells_what_was_said(name, field, beginning, client, staff, conversation):
    sign_in_client(client, staff)
    url = reverse(f"admin:inference_{name}_changelist")

    answer = client.get(url, {f"{field}__startswith": beginning})

    assert answer.status_code == 400


def test_the_filters_of_the_page_work(client, staff, conversation):
    sign_in_client(client, staff)
    url = reverse("admin:inference_generation_changelist")

    assert client.get(url, {"status__exact": "failed"}).context["cl"].result_count == 1
    assert client.get(url, {"status__exact": "queued"}).context["cl"].result_count == 0


def test_reading_needs_a_reason_and_leaves_an_event(client, reader, alice, conversation):
    sign_in_client(client, reader)

    for reason in ("", "   because   ", "too short"):
        answer = client.post(read_url(conversation), {"reason": reason})
        assert SECRET not in answer.content.decode()
    assert reads() == []

    answer = client.post(read_url(conversation), {"reason": REASON}, REMOTE_ADDR="203.0.113.9")

    page = answer.content.decode()
    assert "the launch code?" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "no-store" in answer["Cache-Control"]
    (event,) = reads()
    assert (event.actor, event.subject) == (reader.pseudonym, alice.pseudonym)
    assert event.data == {"conversation": str(conversation.pk), "reason": REASON}
    assert event.network == "203.0.113.0/24"


def test_it_is_shown_once(client, reader, conversation):
    sign_in_client(client, reader)
    client.post(read_url(conversation), {"reason": REASON})

    assert SECRET not in client.get(read_url(conversation)).content.decode()
    client.post(read_url(conversation), {"reason": REASON})
    assert len(reads()) == 2


def test_nothing_is_shown_where_the_event_cannot_be_written(client, reader, conversation, monkeypatch):
    def fail(*args, **values):
        raise DatabaseError("disk full")

    sign_in_client(client, reader)
    monkeypatch.setattr("inference.admin.answers.record", fail)
    client.raise_request_exception = False

    answer = client.post(read_url(conversation), {"reason": REASON})

    assert answer.status_code == 500
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("role", ["member", "curator", "operator"])
def test_others_may_not_read(role, client, bob, conversation):
    bob.groups.set([Group.objects.get(name=role)])
    bob.user_permissions.add(Permission.objects.get(codename="view_conversation"))
    sign_in_client(client, bob)

    for answer in (
        client.get(read_url(conversation)),
        client.post(read_url(conversation), {"reason": REASON}),
    ):
        assert answer.status_code == (302 if role == "member" else 403)
        assert SECRET not in answer.content.decode()
    assert reads() == []
    details = client.get(reverse("admin:inference_conversation_change", args=[conversation.pk]))
    assert b"/read/" not in details.content


def test_the_page_of_a_conversation_leads_there(client, reader, conversation):
    sign_in_client(client, reader)

    page = client.get(reverse("admin:inference_conversation_change", args=[conversation.pk]))

    assert read_url(conversation) in page.content.decode()
    # To its own page, which only its owner can open, there is no link.
    assert "/admin/r/" not in page.content.decode()
    missing = read_url(Conversation(owner=reader))
    assert client.get(missing).status_code == 404


@pytest.mark.parametrize("name", ["conversation", "generation"])
def test_nobody_deletes_or_changes_what_others_wrote(name, client, staff, conversation):
    row = {"conversation": conversation, "generation": Generation.objects.get()}[name]
    sign_in_client(client, staff)

    for page in ("change", "delete"):
        url = reverse(f"admin:inference_{name}_{page}", args=[row.pk])
        assert client.post(url, {"post": "yes"}).status_code == 403
    assert client.post(reverse(f"admin:inference_{name}_add"), {}).status_code == 403
    assert Conversation.objects.count() == Generation.objects.count() == 1


@pytest.mark.parametrize("name", ["conversation", "generation"])
def test_a_longer_list_costs_no_more_queries(name, client, staff, conversation):
    sign_in_client(client, staff)
    url = reverse(f"admin:inference_{name}_changelist")

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url).status_code == 200
        return len(queries)

    count()
    few = count()
    for number in range(5):
        write(User.objects.create(username=f"user{number}"))

    assert count() == few
    assert few <= 10


@pytest.mark.parametrize("text", ["alice", "no-uuid", "00000000-0000-0000-0000-000000000000"])
def test_conversations_are_searched_by_id_and_owner(text, client, staff, conversation):
    sign_in_client(client, staff)

    page = client.get(reverse("admin:inference_conversation_changelist"), {"q": text})

    assert [row.pk for row in page.context["cl"].result_list] == (
        [conversation.pk] if text == "alice" else []
    )


def test_the_operator_runs_models(client, bob, models):
    bob.groups.add(Group.objects.get(name="operator"))
    sign_in_client(client, bob)

    assert client.get(reverse("admin:inference_chatmodelconfig_changelist")).status_code == 200
    change = reverse("admin:inference_chatmodelconfig_change", args=[models["echo"].pk])
    assert 'name="_save"' in client.get(change).content.decode()
    assert client.get(reverse("admin:inference_generation_changelist")).status_code == 200
    assert client.get(reverse("admin:inference_conversation_changelist")).status_code == 403
