"""What people say of answers, through the API: who may, what is kept, and what follows from a change."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from conftest import bearer
from feedback.giving import give
from feedback.models import Example, Feedback, ReviewStatus, Tag
from feedback.models.feedback import COMMENT_LENGTH, CORRECTION_LENGTH
from feedback.review import accept, claim, reject
from feedback.tests.naughty import FRAGILE, HOSTILE, NO_CHARACTERS, as_read, has_markup
from inference.models import Conversation, Generation, Message, Status, VerifiedAnswer

pytestmark = pytest.mark.django_db(transaction=True)


def answer_of(user, text="Foxes are birds.", *, question="What are foxes?", **values):
    """A message with an answer, in a conversation of its own."""
    conversation = Conversation.objects.create(owner=user)
    asked = Message.objects.create(conversation=conversation, role="user", content=question)
    told = Message.objects.create(conversation=conversation, role="assistant", content=text, parent=asked)
    values = {"status": Status.FINISHED, "model_alias": "echo", "provider": "echo", "door": "rest", **values}
    Generation.objects.create(user=user, message=told, **values)
    return told


@pytest.fixture
def answer(alice):
    return answer_of(alice)


@pytest.fixture
def curator(make_user):
    user = make_user("curator")
    user.groups.add(Group.objects.get(name="curator"))
    return user


def say(user, message, /, **values):
    body = {"message": str(message.pk), "rating": 1, **values}
    return Client(headers=bearer(user)).post("/api/feedback", body, content_type="application/json")


def listed(user, **query):
    answer = Client(headers=bearer(user)).get("/api/feedback", query)
    assert answer.status_code == 200, answer.content
    return answer.json()["results"]


# --- Giving -------------------------------------------------------------------------------------------


@pytest.mark.flows
def test_it_is_kept_with_all_that_was_said(alice, answer):
    given = say(alice, answer, rating=-1, tags=["style", "wrong"], comment=" No. ", correction="Mammals.")

    assert given.status_code == 201
    shown = given.json()
    assert shown["message"] == str(answer.pk)
    assert shown["conversation"] == str(answer.conversation_id)
    assert (shown["rating"], shown["tags"]) == (-1, ["wrong", "style"])
    assert (shown["comment"], shown["correction"]) == ("No.", "Mammals.")
    assert (shown["user"], shown["status"], shown["for_training"]) == ("alice", "open", False)
    assert listed(alice) == [shown]


def test_a_second_word_takes_the_place_of_the_first(alice, answer):
    first = say(alice, answer, rating=-1, comment="Bad", tags=["wrong"])
    second = say(alice, answer, rating=1)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["id"] == first.json()["id"]
    assert (second.json()["comment"], second.json()["tags"]) == ("", [])
    assert Feedback.objects.count() == 1


def test_of_two_at_the_same_moment_one_row_is_left(alice, answer):
    together = Barrier(4)

    def run(number):
        together.wait()
        try:
            return give(alice, answer.pk, rating=1, comment=f"word {number}").pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        rows = set(threads.map(run, range(4)))
    assert len(rows) == 1
    assert Feedback.objects.count() == 1


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"rating": 0}, "rating"),
        ({"rating": 2}, "rating"),
        ({"rating": "1"}, "rating"),
        ({"rating": None}, "rating"),
        ({"tags": ["silly"]}, "tags"),
        ({"tags": "wrong"}, "tags"),
        ({"tags": [Tag.WRONG] * 50}, "tags"),
        ({"message": "nonsense"}, "message"),
        ({"comment": "x" * (COMMENT_LENGTH + 1)}, "comment"),
        ({"correction": "x" * (CORRECTION_LENGTH + 1)}, "correction"),
        ({"comment": 5}, "comment"),
        ({"status": "accepted"}, "status"),
    ],
)
def test_values_that_make_no_sense_name_the_field_and_change_nothing(alice, answer, values, field):
    refused = say(alice, answer, **values)
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, field)
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("field", ["comment", "correction"])
def test_what_is_no_character_is_refused(alice, answer, field):
    for text in NO_CHARACTERS:
        refused = say(alice, answer, **{field: f"a {text} b"})
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, field), ascii(text)
        message = refused.json()["error"]["message"]
        assert message.startswith("The text has something in it that is no character (U+"), ascii(text)
    assert not Feedback.objects.exists()


@pytest.mark.parametrize("field", ["comment", "correction"])
def test_naughty_texts_are_kept_as_text(alice, answer, field):
    for text in (*HOSTILE, *FRAGILE):
        kept = say(alice, answer, **{field: text}).json()[field]
        assert as_read(kept) == as_read(text)
        assert not has_markup(kept)


class TestWhichAnswers:
    def test_one_of_somebody_else_is_none(self, bob, curator, answer):
        for user in (bob, curator):
            assert say(user, answer).status_code == 404
        assert not Feedback.objects.exists()

    def test_a_question_is_none(self, alice, answer):
        refused = say(alice, answer.parent)
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, "message")

    def test_one_that_is_still_being_written_is_none_yet(self, alice):
        for status in (Status.QUEUED, Status.STREAMING):
            assert say(alice, answer_of(alice, "Fo", status=status)).status_code == 400

    def test_one_without_a_word_is_none(self, alice):
        assert say(alice, answer_of(alice, " ", status=Status.FAILED)).status_code == 400

    def test_one_that_broke_off_is_one(self, alice):
        assert say(alice, answer_of(alice, "Foxes", status=Status.CUT)).status_code == 201


def test_a_key_without_the_scope_is_refused(alice, answer):
    client = Client(headers=bearer(alice, scopes=["chat"]))
    body = {"message": str(answer.pk), "rating": 1}
    assert client.post("/api/feedback", body, content_type="application/json").status_code == 403
    assert client.get("/api/feedback").status_code == 403
    assert client.delete(f"/api/feedback/{answer.pk}").status_code == 403
    assert not Feedback.objects.exists()


# --- Consent ------------------------------------------------------------------------------------------


def consent(user, moment):
    User.objects.filter(pk=user.pk).update(training_consent_at=moment)


class TestConsent:
    def test_that_of_the_moment_is_stamped(self, alice, answer):
        say(alice, answer)
        assert Feedback.objects.get().consented_at is None

        since = timezone.now()
        consent(alice, since)
        say(alice, answer, comment="Now it may be used.")
        assert Feedback.objects.get().consented_at == since
        assert listed(alice)[0]["for_training"]

    def test_also_where_the_caller_was_known_before_it_was_given(self, alice, answer):
        client = Client(headers=bearer(alice))
        client.get("/api/feedback")
        consent(alice, timezone.now())
        body = {"message": str(answer.pk), "rating": 1}
        given = client.post("/api/feedback", body, content_type="application/json").json()
        assert given["for_training"]

    def test_what_was_written_without_it_is_not_used_by_giving_it_later(self, alice, answer):
        say(alice, answer)
        consent(alice, timezone.now())
        assert not Feedback.objects.trainable().exists()
        assert not listed(alice)[0]["for_training"]

    def test_the_same_words_said_again_are_under_the_new_one(self, alice, answer, curator):
        say(alice, answer, correction="Mammals.")
        feedback = Feedback.objects.get()
        assert accept(feedback, curator, answer="Mammals.", scope="author")
        consent(alice, timezone.now())
        say(alice, answer, correction="Mammals.")

        feedback.refresh_from_db()
        assert feedback.consented_at is not None
        assert feedback.status == ReviewStatus.ACCEPTED

    def test_taken_back_it_is_not_used(self, alice, answer):
        consent(alice, timezone.now())
        say(alice, answer)
        assert Feedback.objects.trainable().exists()
        consent(alice, None)
        assert not Feedback.objects.trainable().exists()
        say(alice, answer, comment="Changed")
        assert Feedback.objects.get().consented_at is None


# --- Changing what was reviewed -----------------------------------------------------------------------


@pytest.fixture
def accepted(alice, answer, curator):
    say(alice, answer, rating=-1, correction="Mammals.")
    feedback = Feedback.objects.get()
    assert accept(feedback, curator, answer="Mammals.", scope="site", confirmed_impersonal=True)
    assert VerifiedAnswer.objects.count() == 1
    assert Example.objects.count() == 3
    return feedback


def nothing_follows():
    return not VerifiedAnswer.objects.exists() and not Example.objects.exists()


class TestReviewed:
    def test_accepted_and_changed_it_is_open_again_and_nothing_follows(self, alice, answer, accepted):
        assert say(alice, answer, rating=-1, correction="Fish.").json()["status"] == "open"
        accepted.refresh_from_db()
        assert (accepted.status, accepted.scope, accepted.reviewed_by) == (ReviewStatus.OPEN, "", None)
        assert nothing_follows()

    def test_said_again_in_the_same_words_it_stays(self, alice, answer, accepted):
        assert say(alice, answer, rating=-1, correction="Mammals.").json()["status"] == "accepted"
        assert VerifiedAnswer.objects.exists()

    def test_rejected_and_changed_it_is_open_again(self, alice, answer, curator):
        say(alice, answer)
        assert reject(Feedback.objects.get(), curator)
        assert say(alice, answer, comment="But look").json()["status"] == "open"

    def test_a_decision_on_the_old_words_fails(self, alice, answer, curator, make_user):
        say(alice, answer, correction="Mammals.")
        feedback = Feedback.objects.get()
        assert claim(feedback, curator)
        say(alice, answer, correction="Fish.")
        feedback.refresh_from_db()
        assert (feedback.claimed_by, feedback.claimed_at) == (None, None)

    def test_taken_back_nothing_follows(self, alice, accepted):
        gone = Client(headers=bearer(alice)).delete(f"/api/feedback/{accepted.pk}")
        assert gone.status_code == 204
        assert not Feedback.objects.exists()
        assert nothing_follows()

    def test_only_its_author_takes_it_back(self, bob, curator, accepted):
        for user in (bob, curator):
            assert Client(headers=bearer(user)).delete(f"/api/feedback/{accepted.pk}").status_code == 404
        assert VerifiedAnswer.objects.exists()

    def test_with_its_conversation_all_goes(self, alice, answer, accepted):
        Client(headers=bearer(alice)).delete(f"/api/conversations/{answer.conversation_id}")
        assert not Feedback.objects.exists()
        assert nothing_follows()


# --- Listing ------------------------------------------------------------------------------------------


class TestList:
    @pytest.fixture(autouse=True)
    def _some(self, alice, bob):
        self.first, self.second, self.third = answer_of(alice), answer_of(alice), answer_of(bob)
        say(alice, self.first, rating=-1, tags=["wrong"], correction="Mammals.")
        say(alice, self.second, tags=["helpful"])
        say(bob, self.third, rating=-1, tags=["style", "harmful"])

    def found(self, user, **query):
        return [row["message"] for row in listed(user, **query)]

    def test_people_see_their_own_the_newest_first(self, alice, bob, charlie):
        assert self.found(alice) == [str(self.second.pk), str(self.first.pk)]
        assert self.found(bob) == [str(self.third.pk)]
        assert self.found(charlie) == []

    def test_curators_see_all(self, curator, staff):
        for user in (curator, staff):
            assert self.found(user) == [str(one.pk) for one in (self.third, self.second, self.first)]

    def test_a_filter_leaves_what_it_names(self, curator):
        first, second, third = (str(one.pk) for one in (self.first, self.second, self.third))
        assert self.found(curator, rating=-1) == [third, first]
        assert self.found(curator, rating=1) == [second]
        assert self.found(curator, tag="harmful") == [third]
        assert self.found(curator, corrected="true") == [first]
        assert self.found(curator, corrected="false") == [third, second]
        assert self.found(curator, message=second) == [second]
        assert self.found(curator, conversation=self.third.conversation_id) == [third]
        assert self.found(curator, status="open") == [third, second, first]
        assert self.found(curator, status="rejected") == []

    def test_a_filter_shows_nobody_what_is_not_theirs(self, alice):
        assert self.found(alice, message=self.third.pk) == []

    @pytest.mark.parametrize(
        "query",
        [{"rating": "5"}, {"tag": "silly"}, {"status": "new"}, {"message": "1"}, {"corrected": "null"}],
    )
    def test_a_filter_that_makes_no_sense_is_refused(self, alice, query):
        refused = Client(headers=bearer(alice)).get("/api/feedback", query)
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, next(iter(query)))

    def test_pages_follow_each_other(self, curator):
        client, path, seen = Client(headers=bearer(curator)), "/api/feedback?limit=1", []
        while path:
            page = client.get(path).json()
            seen += [row["message"] for row in page["results"]]
            path = page["next"]
        assert seen == [str(one.pk) for one in (self.third, self.second, self.first)]

    def test_a_page_is_one_query_however_long_it_is(self, alice, curator):
        def asked_for(client, limit):
            client.get("/api/feedback")  # Who asks is known for a moment.
            with CaptureQueriesContext(connection) as captured:
                rows = client.get("/api/feedback", {"limit": limit}).json()["results"]
            assert len(rows) == limit
            return [query["sql"] for query in captured]

        for user, most in ((alice, 2), (curator, 3)):
            client = Client(headers=bearer(user))
            for limit in range(1, most + 1):
                [query] = asked_for(client, limit)
                assert '"feedback_feedback"' in query
                assert '"content"' not in query, "texts of answers that nobody is shown"
