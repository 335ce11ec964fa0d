"""What is kept of what a person said: theirs to download, and gone with their account."""

import json

import pytest
from django.contrib.auth.models import Group

from accounts.erasure import erase
from accounts.export import export_of
from feedback.giving import give
from feedback.models import Example, Feedback
from feedback.review import accept, claim
from feedback.tests.test_giving import answer_of
from inference.models import VerifiedAnswer

pytestmark = pytest.mark.django_db(transaction=True)

MARK = "quokka-4711"


@pytest.fixture
def curator(make_user):
    user = make_user("curator")
    user.groups.add(Group.objects.get(name="curator"))
    return user


@pytest.fixture
def accepted(alice, curator):
    """Told to everybody, and full of words of Alice's."""
    given = give(alice, answer_of(alice).pk, rating=-1, tags=["wrong"], comment=MARK, correction=MARK)
    assert accept(given, curator, answer=MARK, scope="site", confirmed_impersonal=True)
    return given


def test_it_is_theirs_to_download(alice, bob, accepted):
    give(bob, answer_of(bob).pk, rating=1, comment="of Bob")
    export = json.loads(json.dumps(export_of(alice)["feedback"]))
    [said] = export
    assert (said["rating"], said["tags"], said["comment"], said["correction"]) == (-1, ["wrong"], MARK, MARK)
    assert (said["status"], said["scope"], said["consented_at"]) == ("accepted", "site", None)
    assert [example["kind"] for example in said["examples"]] == ["evaluation", "preference", "sft"]


def test_nothing_of_it_is_left_of_one_who_is_erased(alice, bob, accepted):
    kept = give(bob, answer_of(bob).pk, rating=1, comment="of Bob")
    receipt = erase(alice, actor=None)

    assert (receipt.counts["feedback"], receipt.counts["feedback_examples"]) == (1, 3)
    assert not VerifiedAnswer.objects.exists()
    assert not Example.objects.exists()
    assert list(Feedback.objects.all()) == [kept]


def test_a_curator_who_is_erased_leaves_what_they_decided(alice, bob, curator, accepted):
    other = give(bob, answer_of(bob).pk, rating=1)
    assert claim(other, curator)
    erase(curator, actor=None)

    accepted.refresh_from_db()
    other.refresh_from_db()
    assert (accepted.status, accepted.reviewed_by) == ("accepted", None)
    assert other.claimed_by is None
    assert VerifiedAnswer.objects.get().created_by is None
    assert Example.objects.count() == 3
