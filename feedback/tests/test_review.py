"""What curators decide, and what follows: for the next who asks, for training, for examinations; and back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connections
from django.test import AsyncClient
from django.utils import timezone

from accounts.erasure import erase
from accounts.models import AuditEvent
from accounts.models.audit import AuditKind
from conftest import bearer
from embeddings.models import Collection
from feedback import review
from feedback.models import Example, ExampleKind, Feedback, ReviewStatus, Scope
from feedback.models.feedback import CLAIM_LASTS, CORRECTION_LENGTH
from feedback.review import accept, claim, reject, release, revoke
from inference.hit_writer import hit_writer
from inference.models import Generation, Message, VerifiedAnswer
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.tests.doors import post
from inference.tests.waiting import until
from llmsite.core.errors import InvalidInput

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

QUESTION, WRONG, RIGHT = "Who leads the Dahlem lab?", "Nobody knows.", "Dr. Imani Okafor leads it."


@pytest.fixture
def curator(make_user):
    user = make_user("curator")
    user.groups.add(Group.objects.get(name="curator"))
    return user


@pytest.fixture
def second(make_user):
    user = make_user("second")
    user.groups.add(Group.objects.get(name="curator"))
    return user


async def ask(user, prompt=QUESTION, **values):
    scripted.play(Script(pieces=(WRONG,)))
    answer = await post(user, "/api/predict", {"prompt": prompt, **values})
    await hit_writer.flush()
    return answer.json()


async def given(user, reply=None, **values):
    """What `user` says of an answer: a thumbs-down and the right one, if nothing else is said."""
    reply = reply or await ask(user)
    values = {"rating": -1, "correction": RIGHT, **values}
    return await Feedback.objects.acreate(user=user, message_id=reply["message"], **values)


decide = sync_to_async(accept)
OWN = {"answer": RIGHT, "scope": Scope.AUTHOR}


async def left():
    """How many verified answers and examples there are."""
    return await VerifiedAnswer.objects.acount(), await Example.objects.acount()


# --- Accepting ----------------------------------------------------------------------------------------


@pytest.mark.flows
async def test_an_accepted_correction_is_told_examined_and_trained_on(alice, bob, curator):
    feedback = await given(alice)
    assert await decide(feedback, curator, **OWN, label="people")

    told = await ask(alice, "who leads  the DAHLEM lab?")
    assert (told["text"], told["cache"], told["cost"]) == (RIGHT, "verified", "0")
    assert (await ask(bob))["text"] == WRONG
    examples = {example.kind: example async for example in feedback.examples.all()}
    assert set(examples) == set(ExampleKind.values)
    for example in examples.values():
        assert example.prompt == [{"role": "user", "content": QUESTION}]
        assert example.chosen == RIGHT
        assert example.created_by_id == curator.pk
    assert examples["preference"].rejected == WRONG
    assert examples["sft"].rejected == examples["evaluation"].rejected == ""
    await feedback.arefresh_from_db()
    assert (feedback.status, feedback.scope, feedback.label) == ("accepted", "author", "people")
    assert feedback.reviewed_by_id == curator.pk
    assert feedback.reviewed_at is not None
    event = await AuditEvent.objects.aget(kind=AuditKind.FEEDBACK_ACCEPTED)
    assert (event.actor, event.subject) == (curator.pseudonym, alice.pseudonym)
    assert event.data == {"feedback": str(feedback.pk), "scope": "author"}


async def test_for_everybody_it_is_told_to_everybody(alice, bob, curator):
    feedback = await given(alice)
    assert await decide(feedback, curator, answer=RIGHT, scope=Scope.SITE, confirmed_impersonal=True)
    assert [(await ask(user))["text"] for user in (alice, bob)] == [RIGHT, RIGHT]


async def test_for_a_collection_it_is_told_to_who_asks_it(alice, bob, curator):
    collection = await Collection.objects.acreate(owner=alice, name="Handbook", visibility="public")
    feedback = await given(alice)
    scope = {"scope": Scope.COLLECTION, "collection": collection, "confirmed_impersonal": True}
    assert await decide(feedback, curator, answer=RIGHT, **scope)
    assert (await ask(bob, collection=str(collection.pk)))["text"] == RIGHT
    assert (await ask(bob))["text"] == WRONG
    await feedback.arefresh_from_db()
    assert feedback.collection_id == collection.pk


async def test_a_follow_up_is_learned_with_the_turns_before_it(alice, curator):
    first = await ask(alice, system="Be brief.")
    reply = await ask(alice, "And before her?", conversation=first["conversation"])
    assert await decide(await given(alice, reply), curator, **OWN)

    example = await Example.objects.aget(kind=ExampleKind.SFT)
    assert [(turn["role"], turn["content"]) for turn in example.prompt] == [
        ("system", "Be brief."),
        ("user", QUESTION),
        ("assistant", WRONG),
        ("user", "And before her?"),
    ]
    assert (await ask(alice, "And before her?"))["text"] == WRONG


async def test_an_answer_that_never_came_is_no_turn(alice, curator):
    path = f"/api/conversations/{(await ask(alice))['conversation']}/messages"
    failed = await post(alice, path, {"prompt": "And before her?", "model": "unavailable"})
    rows = Generation.objects.filter(pk=failed.json()["message"]["generation"]["id"])
    await until(rows.filter(status="failed").first)
    scripted.play(Script(pieces=(WRONG,)))
    asked = await post(alice, path, {"prompt": "And after her?", "model": "scripted"})
    rows = Generation.objects.filter(pk=asked.json()["message"]["generation"]["id"], status="finished")
    answer = await until(rows.first)
    assert await decide(await given(alice, {"message": answer.message_id}), curator, **OWN)

    example = await Example.objects.aget(kind=ExampleKind.EVALUATION)
    assert [(turn["role"], turn["content"]) for turn in example.prompt] == [
        ("user", QUESTION),
        ("assistant", WRONG),
        ("user", "And before her?\n\nAnd after her?"),
    ]


async def test_an_answer_that_is_right_as_it_is_is_not_worse_than_itself(alice, curator):
    assert await decide(await given(alice, rating=1, correction=""), curator, answer=WRONG, scope="author")
    assert {kind async for kind in Example.objects.values_list("kind", flat=True)} == {"sft", "evaluation"}
    assert await VerifiedAnswer.objects.acount() == 1


async def test_nor_is_one_with_markup_which_is_kept_as_text(alice, curator):
    feedback = await given(alice, rating=1, correction="")
    await Message.objects.filter(pk=feedback.message_id).aupdate(content="Use <b>two</b> of them.\n")

    assert await decide(feedback, curator, answer="Use <b>two</b> of them.", scope="author")

    assert {kind async for kind in Example.objects.values_list("kind", flat=True)} == {"sft", "evaluation"}


async def test_the_newer_of_two_to_one_question_is_told(alice, curator):
    older, newer = await given(alice), await given(alice, await ask(alice))
    for feedback, answer in ((older, "older"), (newer, "newer")):
        assert await decide(feedback, curator, answer=answer, scope="author")
    assert (await ask(alice))["text"] == "newer"
    # What stands is the newer one's: taking the older back leaves it.
    assert await sync_to_async(revoke)(older, curator)
    assert (await ask(alice))["text"] == "newer"


@pytest.mark.parametrize("scope", Scope.values)
async def test_what_gave_way_to_a_newer_one_is_told_again_when_that_goes(scope, alice, bob, curator):
    collection = await Collection.objects.acreate(owner=alice, name="Handbook", visibility="public")
    asker = alice if scope == Scope.AUTHOR else bob
    said = [await given(asker, await ask(asker)) for asker in (alice, asker, asker)]
    other = await given(alice, await ask(alice, "Who leads another lab?"))
    told = {"scope": scope, "collection": collection, "confirmed_impersonal": True}
    for feedback, answer in zip([*said, other], ("oldest", "older", "newer", "other"), strict=True):
        assert await decide(feedback, curator, answer=answer, **told)
    place = VerifiedAnswer.objects.exclude(source=other.pk)
    assert [row.answer async for row in place.all()] == ["newer"]

    assert await sync_to_async(revoke)(said[2], curator)
    assert [(row.answer, row.source) async for row in place.all()] == [("older", said[1].pk)]
    # Likewise where it is deleted.
    await said[1].adelete()
    assert [(row.answer, row.source) async for row in place.all()] == [("oldest", said[0].pk)]
    assert await sync_to_async(revoke)(said[0], curator)
    assert [row.answer async for row in VerifiedAnswer.objects.all()] == ["other"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"answer": " \n"}, "answer"),
        ({"answer": "a\x00b"}, "answer"),
        ({"answer": "x" * (CORRECTION_LENGTH + 1)}, "answer"),
        ({"label": "x" * 51}, "label"),
        ({"scope": "all"}, "scope"),
        ({"scope": ""}, "scope"),
        ({"scope": Scope.SITE}, "confirmed_impersonal"),
        ({"scope": Scope.COLLECTION}, "confirmed_impersonal"),
        ({"scope": Scope.COLLECTION, "confirmed_impersonal": True}, "collection"),
    ],
)
async def test_what_will_not_do_is_refused_and_nothing_is_stored(values, field, alice, curator):
    feedback = await given(alice)
    with pytest.raises(InvalidInput) as refused:
        await decide(feedback, curator, **{**OWN, **values})
    assert refused.value.field == field
    await is_as_before(feedback)


async def test_nobody_publishes_where_they_cannot_read(alice, curator):
    foreign = await Collection.objects.acreate(owner=alice, name="Mine")
    feedback = await given(alice)
    with pytest.raises(InvalidInput) as refused:
        await decide(
            feedback, curator, answer=RIGHT, scope="collection", collection=foreign, confirmed_impersonal=True
        )
    assert refused.value.field == "collection"
    await is_as_before(feedback)


async def is_as_before(feedback):
    await feedback.arefresh_from_db()
    assert feedback.status == ReviewStatus.OPEN
    assert await left() == (0, 0)
    assert not await AuditEvent.objects.filter(kind__startswith="feedback").aexists()


async def test_a_failure_in_the_middle_leaves_nothing(alice, curator, monkeypatch):
    feedback = await given(alice)

    def fail(*_args):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(review, "prompt_of", fail)
    with pytest.raises(RuntimeError):
        await decide(feedback, curator, **OWN)
    await is_as_before(feedback)
    assert (await ask(alice))["cache"] != "verified"


# --- Rejecting and taking back -------------------------------------------------------------------------


@pytest.mark.flows
async def test_revoking_removes_all_four(alice, curator):
    feedback = await given(alice)
    await decide(feedback, curator, **OWN)
    assert await left() == (1, 3)

    assert await sync_to_async(revoke)(feedback, curator)

    assert await left() == (0, 0)
    assert (await ask(alice))["text"] == WRONG
    await feedback.arefresh_from_db()
    assert (feedback.status, feedback.scope, feedback.reviewed_by_id) == ("open", "", None)
    event = await AuditEvent.objects.aget(kind=AuditKind.FEEDBACK_REVOKED)
    assert event.data == {"feedback": str(feedback.pk), "answers": 1, "examples": 3}
    assert not await sync_to_async(revoke)(feedback, curator)
    # And once more from the beginning.
    assert await decide(feedback, curator, **OWN)
    assert await left() == (1, 3)


async def test_what_is_rejected_teaches_nothing_until_that_is_taken_back(alice, curator):
    feedback = await given(alice)
    assert await sync_to_async(reject)(feedback, curator, label="a joke")
    await feedback.arefresh_from_db()
    assert (feedback.status, feedback.label, feedback.scope) == ("rejected", "a joke", "")
    assert await left() == (0, 0)
    assert await AuditEvent.objects.filter(kind=AuditKind.FEEDBACK_REJECTED).acount() == 1

    assert not await decide(feedback, curator, **OWN)
    assert await left() == (0, 0)
    assert await sync_to_async(revoke)(feedback, curator)
    assert await decide(feedback, curator, **OWN)


async def test_it_goes_with_the_conversation(alice, bob, curator):
    reply = await ask(alice)
    feedback = await given(alice, reply)
    await decide(feedback, curator, answer=RIGHT, scope=Scope.SITE, confirmed_impersonal=True)
    headers = await sync_to_async(bearer)(alice)
    gone = await AsyncClient().delete(f"/api/conversations/{reply['conversation']}", headers=headers)
    assert gone.status_code == 204
    assert await left() == (0, 0)
    assert (await ask(bob))["text"] == WRONG


async def test_it_goes_with_its_author_and_outlives_its_curator(alice, bob, curator):
    await decide(await given(bob), curator, **OWN)
    await sync_to_async(erase)(curator, actor=None)
    assert await left() == (1, 3)
    await sync_to_async(erase)(bob, actor=None)
    assert await left() == (0, 0)


# --- One curator at a time -----------------------------------------------------------------------------


async def test_one_curator_at_a_time(alice, curator, second):
    feedback = await given(alice)
    assert await sync_to_async(claim)(feedback, curator)
    assert await sync_to_async(claim)(feedback, curator)

    assert not await sync_to_async(claim)(feedback, second)
    assert not await decide(feedback, second, **OWN)
    assert not await sync_to_async(reject)(feedback, second)
    assert not await sync_to_async(release)(feedback, second)
    assert await left() == (0, 0)

    assert await sync_to_async(release)(feedback, curator)
    assert await sync_to_async(claim)(feedback, second)
    assert await decide(feedback, second, **OWN)
    await feedback.arefresh_from_db()
    assert (feedback.claimed_by_id, feedback.claimed_at) == (None, None)
    assert not await sync_to_async(claim)(feedback, curator)


async def test_a_curator_who_went_away_loses_the_claim(alice, curator, second):
    feedback = await given(alice)
    await sync_to_async(claim)(feedback, curator)
    rows = Feedback.objects.filter(pk=feedback.pk)
    await rows.aupdate(claimed_at=timezone.now() - CLAIM_LASTS + timedelta(minutes=1))
    assert not await sync_to_async(claim)(feedback, second)
    await rows.aupdate(claimed_at=timezone.now() - CLAIM_LASTS)
    assert await sync_to_async(claim)(feedback, second)
    assert not await sync_to_async(release)(feedback, curator)


async def test_what_its_author_changed_meanwhile_is_not_accepted_unread(alice, curator):
    feedback = await given(alice)
    seen = feedback.updated_at
    await Feedback.objects.filter(pk=feedback.pk).aupdate(updated_at=timezone.now(), correction="Not that!")
    assert not await decide(feedback, curator, **OWN, seen=seen)
    assert not await sync_to_async(reject)(feedback, curator, seen=seen)
    await feedback.arefresh_from_db()
    assert await decide(feedback, curator, **OWN, seen=feedback.updated_at)


async def test_of_many_who_decide_at_once_one_does(alice, curator, second):
    feedback = await given(alice)
    start = Barrier(8)

    def run(number):
        try:
            start.wait()
            return accept(feedback, (curator, second)[number % 2], answer=f"{number}", scope="author")
        finally:
            connections.close_all()

    def race():
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(run, range(8)))

    done = await sync_to_async(race)()
    assert sorted(done) == [False] * 7 + [True]
    assert await left() == (1, 3)
    assert (await ask(alice))["text"] == str(done.index(True))
    assert await AuditEvent.objects.filter(kind=AuditKind.FEEDBACK_ACCEPTED).acount() == 1


async def test_two_questions_alike_accepted_at_once_leave_one_answer(alice, curator):
    entries = [await given(alice, await ask(alice)) for _ in range(4)]
    start = Barrier(4)

    def run(feedback):
        try:
            start.wait()
            return accept(feedback, curator, answer=str(feedback.pk), scope="author")
        finally:
            connections.close_all()

    def race():
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(run, entries))

    assert await sync_to_async(race)() == [True] * 4
    assert await left() == (1, 12)


async def test_what_is_gone_cannot_be_decided_on(alice, curator):
    feedback = await given(alice)
    await Message.objects.filter(pk=feedback.message_id).adelete()
    assert not await decide(feedback, curator, **OWN)
    assert not await sync_to_async(claim)(feedback, curator)
    assert not await sync_to_async(revoke)(feedback, curator)
