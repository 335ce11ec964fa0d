"""What a person can download: all of their own, nothing of others, no secret."""

import json

import pytest

from accounts.audit import record
from accounts.export import export_of
from accounts.keys import create_key
from accounts.models import AuditEvent, RefreshToken, Team
from accounts.models.audit import AuditKind
from accounts.tests.test_admin_history import spend
from accounts.tokens import sign_in
from conftest import PASSWORD
from inference.models import Conversation, Generation, Message

pytestmark = pytest.mark.django_db


def talk(user, prompt, reply):
    conversation = Conversation.objects.create(owner=user, title=prompt)
    question = Message.objects.create(conversation=conversation, role="user", content=prompt)
    answer = Message.objects.create(
        conversation=conversation, role="assistant", content=reply, parent=question
    )
    Generation.objects.create(
        user=user, message=answer, door="api", model_alias="m", provider="p", parameters={"stop": ["!"]}
    )
    return conversation


def test_everything_of_a_person_is_in_it(make_user):
    alice = make_user("alice", email="alice@example.org", first_name="Alice", last_name="Liddell")
    Team.objects.create(name="Red").members.add(alice)
    key, _ = create_key(alice, "laptop", scopes=["chat"])
    sign_in(alice)
    spend(alice)
    talk(alice, "Why?", "Because.")

    export = json.loads(json.dumps(export_of(alice)))

    profile = export["profile"]
    assert (profile["username"], profile["email"], profile["first_name"], profile["last_name"]) == (
        "alice",
        "alice@example.org",
        "Alice",
        "Liddell",
    )
    assert profile["pseudonym"] == str(alice.pseudonym)
    assert (export["roles"], export["teams"]) == (["member"], ["Red"])
    assert len(export["sign_ins"]) == 1
    assert [(row["name"], row["public_id"], row["scopes"]) for row in export["api_keys"]] == [
        ("laptop", key.public_id, ["chat"])
    ]
    assert export["ledger"]["totals"] == {"input_tokens": 3, "output_tokens": 5, "cost": "0.000013"}
    assert len(export["ledger"]["entries"]) == 1
    assert {event["kind"] for event in export["audit"]} == {"key_created", "signed_in"}
    (conversation,) = export["conversations"]
    assert conversation["title"] == "Why?"
    question, answer = conversation["messages"]
    assert (question["content"], question["generation"]) == ("Why?", None)
    assert (answer["content"], answer["parent"]) == ("Because.", question["id"])
    assert answer["generation"]["parameters"] == {"stop": ["!"]}


def test_no_secret_and_nothing_of_others_is_in_it(alice, bob):
    key, text = create_key(alice, "laptop")
    pair = sign_in(alice)
    for user, word in ((alice, "mine"), (bob, "foreign")):
        spend(user)
        talk(user, word, word)
        create_key(user, word)
        record(AuditKind.ENABLED, subject=user, word=word)
    # What Alice did to Bob is in Bob's data: it is about him.
    record(AuditKind.CHAT_READ, subject=bob, actor=alice, word="foreign")

    exported = json.dumps(export_of(alice))

    assert "mine" in exported
    secrets = [text, key.secret_digest, pair.access, pair.refresh, alice.password, PASSWORD]
    secrets += RefreshToken.objects.values_list("digest", flat=True)
    assert [secret for secret in secrets if secret in exported] == []
    assert "foreign" not in exported
    assert str(bob.pseudonym) not in exported


def test_more_of_everything_costs_no_more_queries(alice, django_assert_num_queries):
    def add():
        spend(alice)
        create_key(alice, "laptop")
        sign_in(alice)
        for _ in range(3):
            talk(alice, "Why?", "Because.")

    add()
    with django_assert_num_queries(13):
        export_of(alice)
    add()
    with django_assert_num_queries(13):
        export_of(alice)
    assert AuditEvent.objects.exists()
