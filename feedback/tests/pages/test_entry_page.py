"""One feedback as a curator reads and decides it, without its script."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conftest import sign_in_client
from embeddings.models import Collection
from feedback import review
from feedback.models import Example, Feedback, ReviewStatus
from feedback.models.feedback import CLAIM_LASTS
from feedback.review import accept
from feedback.tests.making import ANSWER, CORRECTION, QUESTION, make_answer, make_feedback
from inference.models import AnswerSource, VerifiedAnswer

pytestmark = pytest.mark.django_db

PASSAGE = "Canberra was founded in 1913 as the seat of government."


@pytest.fixture
def feedback(alice):
    return make_feedback(alice, correction=CORRECTION, comment="No, it is not.")


@pytest.fixture
def page(client, curator):
    """The curator's browser."""
    sign_in_client(client, curator)
    return client


def text_of(answer) -> str:
    return answer.content.decode()


def read(client, feedback, **query):
    return client.get(f"/feedback/{feedback.pk}/", query)


def send(client, feedback, name, query="", **values):
    seen = Feedback.objects.get(pk=feedback.pk).updated_at.isoformat()
    values = {"answer": CORRECTION, "scope": "author", "seen": seen, **values}
    return client.post(f"/feedback/{feedback.pk}/{name}/{query}", values)


# --- What a curator reads -------------------------------------------------------------------------------


def test_the_turns_up_to_the_answer_are_read_and_nothing_else_of_the_conversation(page, alice):
    first = make_answer(alice, "First?", "First.", preface=[{"role": "system", "content": "Be brief."}])
    make_answer(alice, "Another branch?", "SECRET", after=first)
    rated = make_answer(alice, QUESTION, ANSWER, after=first)
    make_answer(alice, "What came later?", "SECRET", after=rated)
    make_answer(alice, "Another conversation?", "SECRET")

    answer = read(page, make_feedback(alice, rated, comment="No, it is not."))

    text = text_of(answer)
    for told in ("Be brief.", "First?", "First.", QUESTION, ANSWER, "No, it is not.", "3 earlier turns"):
        assert told in text
    assert "SECRET" not in text
    assert "What came later?" not in text


def test_the_passages_are_shown_with_a_link_only_where_the_curator_may_read(page, alice, bob, curator):
    message = make_answer(alice, grounding="passages", confidence=0.9)
    collections = [
        Collection.objects.create(owner=alice, name="Alice's own"),
        Collection.objects.create(owner=alice, name="For all", visibility="public"),
        Collection.objects.create(owner=bob, name="Bob's own, by now"),
    ]
    for number, collection in enumerate(collections, start=1):
        AnswerSource.objects.create(
            generation=message.generation,
            number=number,
            document=collection.pk,
            version=collection.pk,
            collection=collection.pk,
            title=f"Title {number}",
            text=f"{PASSAGE} ({number})",
            start=0,
            end=9,
            score=1,
        )

    text = text_of(read(page, make_feedback(alice, message)))

    assert f"{PASSAGE} (1)" in text
    assert f"/documents/{collections[0].pk}/" not in text
    assert f"/documents/{collections[1].pk}/" in text
    # What the author may not read any more, nobody reads through the author's answer.
    assert f"{PASSAGE} (3)" not in text
    assert "Title 3" not in text


def test_consent_that_is_not_there_is_told(page, alice, feedback):
    assert "Is not trained on" in text_of(read(page, feedback))
    alice.training_consent_at = timezone.now()
    alice.save()
    assert "Is not trained on" in text_of(read(page, feedback)), "it was written before"
    assert "May be trained on" in text_of(read(page, make_feedback(alice)))


def test_a_long_conversation_asks_no_more_of_the_database(page, alice, curator):
    def queries(feedback) -> int:
        with CaptureQueriesContext(connection) as found:
            assert read(page, feedback).status_code == 200
        return len(found)

    short = make_feedback(alice, make_answer(alice, grounding="nothing", confidence=0))
    queries(short)  # what is asked once a process
    message = None
    for number in range(8):
        message = make_answer(alice, f"Question {number}?", after=message, grounding="nothing", confidence=0)

    assert queries(make_feedback(alice, message)) == queries(short)


def test_what_is_not_there_is_told(page):
    assert page.get("/feedback/00000000-0000-0000-0000-000000000001/").status_code == 404


# --- Claims ---------------------------------------------------------------------------------------------


def test_a_claim_opens_the_form_and_is_given_back(page, feedback, curator):
    assert 'data-state="free"' in text_of(read(page, feedback))

    answer = page.post(f"/feedback/{feedback.pk}/claim/?rating=-1")

    assert answer["Location"] == f"/feedback/{feedback.pk}/?rating=-1"
    text = text_of(read(page, feedback))
    assert 'data-state="mine"' in text
    assert f"{CORRECTION}</textarea>" in text
    assert Feedback.objects.get().claimed_by == curator
    send(page, feedback, "release")
    assert Feedback.objects.get().claimed_by is None


def test_an_entry_that_another_curator_has_claimed_is_only_read(page, feedback, make_curator):
    other = make_curator("olga")
    Feedback.objects.update(claimed_by=other, claimed_at=timezone.now())

    text = text_of(read(page, feedback))
    assert "olga is at work on it." in text
    assert "<textarea" not in text
    answer = page.post(f"/feedback/{feedback.pk}/claim/", follow=True)
    assert "Somebody else was faster" in text_of(answer)
    assert Feedback.objects.get().claimed_by == other
    send(page, feedback, "release")
    assert Feedback.objects.get().claimed_by == other
    # A claim that has run out is none.
    Feedback.objects.update(claimed_at=timezone.now() - CLAIM_LASTS - timedelta(seconds=1))
    assert 'data-state="free"' in text_of(read(page, feedback))


def test_without_a_correction_the_form_begins_with_the_answer(page, alice, curator):
    feedback = make_feedback(alice, claimed_by=curator, claimed_at=timezone.now())

    assert f"{ANSWER}</textarea>" in text_of(read(page, feedback))


# --- Decisions ------------------------------------------------------------------------------------------


def test_a_correction_is_accepted_for_its_author_and_the_curator_goes_on(page, alice, curator, feedback):
    older = make_feedback(alice, created_at=feedback.created_at - timedelta(1))
    make_feedback(alice, rating=1, created_at=feedback.created_at - timedelta(hours=1))

    answer = send(
        page, feedback, "accept", "?rating=-1", answer="Canberra.\r\nNot Sydney.", label="geography"
    )

    assert answer["Location"] == f"/feedback/{older.pk}/?rating=-1"
    decided = Feedback.objects.get(pk=feedback.pk)
    assert (decided.status, decided.scope, decided.label) == ("accepted", "author", "geography")
    assert decided.reviewed_by == curator
    verified = VerifiedAnswer.objects.get()
    assert (verified.answer, verified.user, verified.source) == ("Canberra.\nNot Sydney.", alice, feedback.pk)
    assert sorted(Example.objects.values_list("kind", flat=True)) == ["evaluation", "preference", "sft"]
    text = text_of(read(page, feedback))
    for told in ("Canberra.\nNot Sydney.", "geography", "verified answer", "preference pair", "carla"):
        assert told in text


def test_who_may_read_no_collection_cannot_choose_one_and_is_told_why(page, alice, curator, feedback):
    Collection.objects.create(owner=alice, name="Hers")
    Feedback.objects.update(claimed_by=curator, claimed_at=timezone.now())

    text = text_of(read(page, feedback))
    assert re.search(r'<input[^>]*value="collection"[^>]* disabled', text)
    assert "There is no collection that you may read" in text
    assert re.search(r'<select[^>]*name="collection"[^>]* disabled', text)
    assert send(page, feedback, "accept", scope="collection").status_code == 400
    assert not VerifiedAnswer.objects.exists()

    Collection.objects.create(owner=curator, name="Cities")
    text = text_of(read(page, feedback))
    assert not re.search(r'<input[^>]*value="collection"[^>]* disabled', text)
    assert "There is no collection that you may read" not in text
    assert not re.search(r'<select[^>]*name="collection"[^>]* disabled', text)


@pytest.mark.parametrize("scope", ["collection", "site"])
def test_others_are_told_only_what_is_confirmed_to_hold_nothing_personal(page, curator, feedback, scope):
    own = Collection.objects.create(owner=curator, name="Cities")
    Feedback.objects.update(claimed_by=curator, claimed_at=timezone.now())

    answer = send(page, feedback, "accept", scope=scope, collection=own.pk, answer="My own words")

    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == ["confirmed_impersonal"]
    assert "My own words</textarea>" in text_of(answer)
    assert not VerifiedAnswer.objects.exists()

    send(page, feedback, "accept", scope=scope, collection=own.pk, confirmed_impersonal="on")
    verified = VerifiedAnswer.objects.get()
    assert (verified.user, verified.collection) == (None, own if scope == "collection" else None)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"answer": ""}, "answer"),
        ({"answer": " \r\n "}, "answer"),
        ({"answer": "a\x00b"}, "answer"),
        ({"answer": "x" * 20_001}, "answer"),
        ({"answer": ANSWER}, "answer"),
        ({"label": "x" * 51}, "label"),
        ({"scope": ""}, "scope"),
        ({"scope": "everybody"}, "scope"),
        ({"scope": "collection", "confirmed_impersonal": "on"}, "collection"),
        ({"seen": ""}, "seen"),
        ({"seen": "2026-01-01"}, "seen"),
    ],
)
def test_what_will_not_do_is_refused_with_the_reason_and_nothing_is_stored(
    page, curator, feedback, values, field
):
    Feedback.objects.update(claimed_by=curator, claimed_at=timezone.now())

    answer = send(page, feedback, "accept", **values)

    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == [field]
    assert str(answer.context["form"].errors[field][0]) in text_of(answer)
    assert Feedback.objects.get().status == ReviewStatus.OPEN
    assert not VerifiedAnswer.objects.exists()
    assert not Example.objects.exists()


def test_a_collection_that_the_curator_may_not_read_is_no_choice(page, curator, bob, feedback):
    foreign = Collection.objects.create(owner=bob, name="Bob's own")
    Feedback.objects.update(claimed_by=curator, claimed_at=timezone.now())

    assert "own</option>" not in text_of(read(page, feedback))
    answer = send(
        page, feedback, "accept", scope="collection", collection=foreign.pk, confirmed_impersonal="on"
    )
    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == ["collection"]


def test_a_good_answer_is_accepted_as_it_is(page, alice):
    feedback = make_feedback(alice, rating=1)

    send(page, feedback, "accept", answer=ANSWER)

    assert VerifiedAnswer.objects.get().answer == ANSWER
    assert sorted(Example.objects.values_list("kind", flat=True)) == ["evaluation", "sft"]


def test_an_entry_is_rejected_and_opened_again(page, curator, feedback):
    answer = send(page, feedback, "reject", answer="", label="a joke")

    assert answer["Location"] == "/feedback/"
    rejected = Feedback.objects.get()
    assert (rejected.status, rejected.label, rejected.reviewed_by) == ("rejected", "a joke", curator)
    assert "Rejected" in text_of(read(page, feedback))
    page.post(f"/feedback/{feedback.pk}/revoke/")
    assert Feedback.objects.get().status == ReviewStatus.OPEN


def test_a_label_that_will_not_do_rejects_nothing(page, feedback):
    answer = page.post(
        f"/feedback/{feedback.pk}/reject/",
        {"label": "x" * 51, "seen": feedback.updated_at.isoformat()},
        follow=True,
    )

    assert "longer than 50" in text_of(answer)
    assert Feedback.objects.get().status == ReviewStatus.OPEN


def test_revoking_takes_back_all_that_followed(page, curator, feedback):
    accept(feedback, curator, answer=CORRECTION, scope="site", confirmed_impersonal=True)

    answer = page.post(f"/feedback/{feedback.pk}/revoke/?status=accepted", follow=True)

    assert "taken back" in text_of(answer)
    assert 'data-state="free"' in text_of(answer)
    assert not VerifiedAnswer.objects.exists()
    assert not Example.objects.exists()


# --- Two at once ----------------------------------------------------------------------------------------


def test_what_its_author_has_changed_meanwhile_is_not_accepted_unread(page, curator, feedback):
    seen = feedback.updated_at.isoformat()
    Feedback.objects.update(correction="Melbourne!", updated_at=timezone.now(), claimed_by=None)

    for name in ("accept", "reject"):
        answer = page.post(
            f"/feedback/{feedback.pk}/{name}/",
            {"answer": "My own words", "scope": "author", "seen": seen},
            follow=True,
        )
        assert "its author has changed it" in text_of(answer)
        assert "Melbourne!" in text_of(answer)
    assert Feedback.objects.get().status == ReviewStatus.OPEN
    assert not VerifiedAnswer.objects.exists()


def test_what_another_curator_has_decided_stays_and_what_was_written_is_not_lost(
    page, feedback, make_curator
):
    accept(feedback, make_curator("olga"), answer="Canberra, says Olga.", scope="author")

    answer = send(page, feedback, "accept", answer="Canberra, says Carla.")

    assert answer.status_code == 409
    assert "Canberra, says Carla." in text_of(answer)
    assert 'data-state="accepted"' in text_of(answer)
    assert VerifiedAnswer.objects.get().answer == "Canberra, says Olga."


@pytest.mark.parametrize("name", ["accept", "reject", "claim", "release", "revoke"])
def test_who_writes_about_a_conversation_that_is_deleted_meanwhile_keeps_the_words(page, feedback, name):
    seen = feedback.updated_at.isoformat()
    feedback.message.conversation.delete()

    written = {"answer": "It is <b>Canberra</b>.", "label": "capitals", "scope": "author", "seen": seen}
    answer = page.post(f"/feedback/{feedback.pk}/{name}/?rating=-1", written)

    assert answer.status_code == 404
    text = text_of(answer)
    assert "its author has deleted it, or the conversation" in text
    assert "It is &lt;b&gt;Canberra&lt;/b&gt;.</textarea>" in text
    assert 'value="capitals"' in text
    assert 'href="/feedback/?rating=-1"' in text


def test_nor_are_they_lost_where_it_goes_at_the_very_moment(page, feedback, monkeypatch):
    decide = review.accept

    def delete_and_decide(*args, **values):
        feedback.message.conversation.delete()
        return decide(*args, **values)

    monkeypatch.setattr("feedback.pages.forms.accept", delete_and_decide)
    answer = send(page, feedback, "accept", answer="It is Canberra.")
    assert answer.status_code == 404
    assert "It is Canberra.</textarea>" in text_of(answer)
    assert not Example.objects.exists()
