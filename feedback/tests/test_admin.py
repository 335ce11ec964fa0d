"""Feedback, examples and verified answers in the admin: found, opened with a reason, changed by nobody."""

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from conftest import sign_in_client
from feedback.models import Example, Feedback
from feedback.review import accept
from inference.models import Conversation, Message, VerifiedAnswer

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert('xss')</script>"
INERT = "&lt;script&gt;alert("


@pytest.fixture
def curator(make_user):
    user = make_user("curator", is_staff=True)
    user.groups.add(Group.objects.get(name="curator"))
    return user


@pytest.fixture
def admin_client(client, curator):
    sign_in_client(client, curator)
    return client


def given(user, number=0, **values):
    conversation = Conversation.objects.create(owner=user)
    question = Message.objects.create(conversation=conversation, role="user", content=f"{HOSTILE} {number}")
    answer = Message.objects.create(
        conversation=conversation, role="assistant", content=f"Old {HOSTILE}", parent=question
    )
    values = {"rating": -1, "comment": HOSTILE, "correction": f"New {HOSTILE}", **values}
    return Feedback.objects.create(user=user, message=answer, **values)


@pytest.fixture
def accepted(alice, curator):
    feedback = given(alice)
    # Stored as it might have come in before anybody cleaned it.
    assert accept(feedback, curator, answer="New", scope="author", label="people")
    VerifiedAnswer.objects.update(answer=f"New {HOSTILE}")
    Example.objects.update(chosen=f"New {HOSTILE}")
    return feedback


def page(model, name, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.mark.parametrize("model", [Feedback, Example, VerifiedAnswer])
def test_a_curator_opens_them_and_markup_in_them_is_text(model, accepted, admin_client):
    row = model.objects.first()
    hidden = admin_client.get(page(model, "change", row.pk))
    listed = admin_client.get(page(model, "changelist"))
    opened = admin_client.post(page(model, "open", row.pk), {"reason": "The author asked about it."})
    assert hidden.status_code == listed.status_code == opened.status_code == 200
    assert INERT in opened.content.decode()
    for answer in (hidden, listed, opened):
        assert "<script>alert(" not in answer.content.decode()
    for answer in (hidden, listed):
        assert INERT not in answer.content.decode()


@pytest.mark.parametrize("model", [Feedback, Example, VerifiedAnswer])
def test_nobody_changes_or_deletes_them_there(model, accepted, client, staff):
    sign_in_client(client, staff)
    row = model.objects.first()
    assert client.get(page(model, "add")).status_code == 403
    assert client.get(page(model, "delete", row.pk)).status_code == 403
    assert client.post(page(model, "change", row.pk), {"rating": 1}).status_code == 403
    assert model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", [Feedback, Example, VerifiedAnswer])
def test_an_operator_does_not_see_them(model, accepted, client, make_user):
    operator = make_user("operator", is_staff=True)
    operator.groups.add(Group.objects.get(name="operator"))
    sign_in_client(client, operator)
    assert client.get(page(model, "changelist")).status_code == 403


def listed(client, model, **parameters):
    answer = client.get(page(model, "changelist"), parameters)
    assert answer.status_code == 200, answer.headers
    return len(answer.context["cl"].result_list)


def test_they_are_found_by_person_id_and_state(alice, bob, accepted, admin_client):
    given(bob, 1, correction="", rating=1)
    assert listed(admin_client, Feedback) == 2
    assert listed(admin_client, Feedback, q="bob") == 1
    assert listed(admin_client, Feedback, q="New") == 0
    assert listed(admin_client, Feedback, q=str(accepted.pk)) == 1
    assert listed(admin_client, Feedback, q=str(accepted.message_id)) == 1
    assert listed(admin_client, Feedback, status__exact="accepted") == 1
    assert listed(admin_client, Feedback, rating__exact="1") == 1
    assert listed(admin_client, Feedback, correction__isempty="1") == 1
    assert listed(admin_client, Example, q=str(accepted.pk)) == 3
    assert listed(admin_client, Example, kind__exact="sft", q="alice") == 1
    assert listed(admin_client, VerifiedAnswer, q=str(accepted.pk)) == 1
    assert listed(admin_client, VerifiedAnswer, q="New") == 0
    assert listed(admin_client, VerifiedAnswer, user__isempty="1") == 0


@pytest.mark.parametrize("model", [Feedback, Example, VerifiedAnswer])
def test_the_list_takes_the_same_queries_for_many_rows(model, alice, curator, admin_client):
    counts = []
    for number in range(6):
        accept(given(alice, number), curator, answer="New", scope="author")
        with CaptureQueriesContext(connection) as queries:
            assert listed(admin_client, model) == (number + 1) * (3 if model is Example else 1)
        counts.append(len(queries))
    assert counts[1:] == counts[:1] * 5
