"""The sums say what the rows say, whatever happens to the rows, and in between."""

import contextlib
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import erasure
from accounts.keys import create_key
from accounts.ledger import correct, reserve, settle
from dashboard import roller
from dashboard.counting import FIELDS, Counted, Tally
from dashboard.histogram import unpacked
from dashboard.models import DAY, HOUR, MINUTE, AccountSum, AnswerSum, LatencySum
from dashboard.tests.making import make_answer, random_values
from inference.models import Conversation, Generation, Status

pytestmark = pytest.mark.django_db


def of_rows(kept=()):
    """What the rows say by themselves, and what `kept` had said before it was deleted."""
    tally = Tally(roller.prices(), minutes_since=roller.minutes_since())
    ended = Generation.objects.filter(ended_at__isnull=False).values_list(*FIELDS)
    return of_tally(tally.add(Counted(*values) for values in [*ended, *kept]))


def of_sums():
    """What the sums say, with what has ended and is in none of them yet."""
    tally = Tally(roller.prices(), minutes_since=roller.minutes_since())
    tally.add(Counted(*values) for values in roller.to_count().values_list(*FIELDS))
    for *key, answers, read, written, cost, saved, unanswered in AnswerSum.objects.values_list(
        *AnswerSum.KEY, *AnswerSum.SUMS
    ):
        sums = tally.answers[tuple(key)]
        tally.answers[tuple(key)] = [
            one + more
            for one, more in zip(sums, (answers, read, written, cost, saved, unanswered), strict=True)
        ]
    for *key, bins in LatencySum.objects.values_list(*LatencySum.KEY, "bins"):
        tally.latencies[tuple(key)].update(unpacked(bins))
    for start, account, key, *sums in AccountSum.objects.values_list(*AccountSum.KEY, *AccountSum.SUMS):
        had = tally.accounts[start, account, key]
        tally.accounts[start, account, key] = [one + more for one, more in zip(had, sums, strict=True)]
    return of_tally(tally)


def of_tally(tally):
    return (
        {key: tuple(sums) for key, sums in tally.answers.items() if any(sums)},
        {key: +Counter(bins) for key, bins in tally.latencies.items() if any(bins.values())},
        {key: tuple(sums) for key, sums in tally.accounts.items() if any(sums)},
    )


def book(generation, *, tokens):
    """A call in the ledger that is an estimate as yet."""
    reserve(
        generation.pk,
        payer=generation.user,
        model="scripted",
        provider="scripted",
        input_price=Decimal(3),
        output_price=Decimal(15),
        input_tokens=tokens,
        input_tokens_at_most=tokens,
        output_tokens_at_most=tokens,
    )
    settle(generation.pk, input_tokens=tokens, output_tokens=tokens, estimated=True)
    Generation.objects.show_booked(generation.pk)


@pytest.mark.parametrize("seed", [1, 2])
def test_sums_are_those_of_the_rows_after_whatever_happens(  # noqa: C901 - each happening is a line or two
    priced, alice, bob, seed
):
    chance = random.Random(seed)
    keys, kept = [create_key(bob, "program")[0]], []

    def arrive():
        user = chance.choice([alice, bob])
        make_answer(user, **random_values(chance), api_key=keys[-1] if user == bob else None)

    def end():
        if row := Generation.objects.running().order_by("?").first():
            row.end("Text.", at=timezone.now(), output_tokens=7, status=Status.INTERRUPTED, latency_ms=9)

    def correct_one():
        row = Generation.objects.filter(status=Status.FINISHED, cache="").order_by("?").first()
        if row and not correct(row.pk, input_tokens=chance.randrange(999), output_tokens=3, estimated=True):
            book(row, tokens=chance.randrange(1, 5000))
        elif row:
            Generation.objects.show_booked(row.pk)

    def delete():
        if row := Generation.objects.order_by("?").first():
            if row.ended_at:
                kept.append(Generation.objects.values_list(*FIELDS).get(pk=row.pk))
            row.message.conversation.delete()

    def replace_key():
        gone = keys.pop()
        kept[:] = [(*values, None if key == gone.public_id else key) for *values, key in kept]
        gone.delete()
        keys.append(create_key(bob, "program")[0])

    for at in range(60):
        happening = [arrive, arrive, arrive, end, correct_one, delete, replace_key, roller.roll_up]
        chance.choice(happening)()
        assert at % 5 or of_sums() == of_rows(kept)

    roller.roll_up()
    assert not roller.to_count().exists()
    assert of_sums() == of_rows(kept)
    assert AnswerSum.objects.exists()


def test_a_second_look_counts_nothing_twice(priced, alice):
    make_answer(alice)
    assert [roller.roll_up(), roller.roll_up()] == [1, 0]
    assert [row.answers for row in AnswerSum.objects.order_by("step")] == [1, 1, 1]


def test_what_fails_half_way_has_neither_counted_nor_marked(priced, alice, monkeypatch):
    make_answer(alice)
    monkeypatch.setattr(roller, "_add_latencies", lambda tally: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        roller.roll_up()

    assert not AnswerSum.objects.exists()
    assert roller.to_count().count() == 1


def test_many_are_counted_in_batches(priced, alice, monkeypatch):
    monkeypatch.setattr(roller, "BATCH", 2)
    for _ in range(5):
        make_answer(alice)
    assert roller.roll_up() == 5
    assert of_sums() == of_rows()


def test_a_worker_counts_a_batch_at_a_time_and_tells_that_it_does(alice, monkeypatch):
    monkeypatch.setattr(roller, "BATCH", 2)
    began = timezone.now()
    assert not roller.is_counting(since=began)
    for _ in range(3):
        make_answer(alice)
    assert [roller.count_in_turns(), roller.count_in_turns(), roller.count_in_turns()] == [True, False, False]
    assert roller.is_counting(since=began)
    assert of_sums() == of_rows()


def test_an_answer_is_counted_that_was_read_before_its_end_and_deleted_after_it(alice):
    stale = make_answer(alice, status=Status.STREAMING, ended_at=None)
    Generation.objects.get(pk=stale.pk).end("Text.", output_tokens=7, status=Status.FINISHED, latency_ms=9)
    stale.delete()
    assert AnswerSum.objects.get(step=DAY).answers == 1


def test_many_that_are_deleted_are_counted_at_once(alice):
    def queries(answers):
        for _ in range(answers):
            make_answer(alice, ago=0)
        with CaptureQueriesContext(connection) as asked:
            Conversation.objects.filter(owner=alice).delete()
        return len(asked)

    queries(1)
    one, many = queries(1), queries(21)
    assert many - one <= 2 * 20
    assert AnswerSum.objects.get(step=DAY).answers == 23


def test_those_that_are_counted_are_deleted_without_a_look_at_each(alice):
    def queries(answers):
        for _ in range(answers):
            make_answer(alice)
        roller.roll_up()
        with CaptureQueriesContext(connection) as asked:
            Conversation.objects.filter(owner=alice).delete()
        return len(asked)

    assert queries(1) == queries(21)


@pytest.fixture
def failing():
    """Deletions of answers fail, once they have been noted."""

    def fail(**_kwargs):
        raise RuntimeError

    @contextlib.contextmanager
    def do_fail():
        pre_delete.connect(fail, sender=Generation)
        try:
            with pytest.raises(RuntimeError), transaction.atomic():
                yield
        finally:
            pre_delete.disconnect(fail, sender=Generation)

    return do_fail


def test_a_deletion_that_failed_is_forgotten_when_it_is_tried_again(alice, failing):
    conversation = make_answer(alice).message.conversation
    with failing():
        conversation.delete()
    roller.roll_up()
    conversation.delete()
    assert AnswerSum.objects.get(step=DAY).answers == 1


def test_what_somebody_else_deleted_between_two_tries_is_counted_once(alice, failing):
    gone = make_answer(alice).message.conversation
    make_answer(alice)
    conversations = Conversation.objects.filter(owner=alice)
    with failing():
        conversations.delete()
    Conversation.objects.get(pk=gone.pk).delete()
    conversations.delete()
    assert AnswerSum.objects.get(step=DAY).answers == 2


def test_a_try_that_is_given_up_after_it_has_counted_is_counted_by_the_next(alice):
    conversations = Conversation.objects.filter(owner=alice)
    make_answer(alice)
    with transaction.atomic():
        conversations.delete()
        transaction.set_rollback(True)
    conversations.delete()
    assert AnswerSum.objects.get(step=DAY).answers == 1


def test_a_late_cost_of_a_key_that_is_gone_is_where_its_answer_is_counted(priced, alice):
    keys = [create_key(alice, "program")[0] for _ in range(2)]
    answers = [make_answer(alice, api_key=key) for key in keys]
    for answer in answers:
        book(answer, tokens=5)
    roller.roll_up()
    for answer in answers:
        correct(answer.pk, input_tokens=900, output_tokens=900, estimated=False)
    keys[0].delete()
    for answer in answers:
        Generation.objects.show_booked(answer.pk)

    sums = AccountSum.objects.values_list("api_key", "answers", "input_tokens")
    assert sorted(sums) == sorted([("", 1, 900), (keys[1].public_id, 1, 900)])
    assert of_sums() == of_rows()


def test_old_minutes_are_trimmed_and_hours_stay(priced, alice):
    make_answer(alice, ago=60)
    make_answer(alice, ago=2 * 86_400)
    roller.roll_up()
    later = timezone.now() + timedelta(days=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roller.timezone, "now", lambda: later)
        roller.trim()

    steps = Counter(AnswerSum.objects.values_list("step", flat=True))
    assert steps == {MINUTE: 1, HOUR: 2, DAY: 2}
    assert LatencySum.objects.filter(step=MINUTE).count() == 2


def test_who_is_erased_leaves_sums_and_no_name(priced, alice, bob, make_user):
    make_user("root", is_superuser=True)
    for user in (alice, alice, bob):
        make_answer(user, cost_micro=5)
    roller.roll_up()
    make_answer(alice, cost_micro=5)
    before = sum(AccountSum.objects.values_list("cost_micro", flat=True))
    erasure.erase(alice, actor=None)

    assert set(AccountSum.objects.values_list("account", flat=True)) == {roller.NOBODY, bob.pseudonym}
    assert sum(AccountSum.objects.values_list("cost_micro", flat=True)) == before + 5
    assert AnswerSum.objects.get(step=DAY).answers == 4


def test_what_is_to_count_is_found_by_its_index(alice):
    make_answer(alice)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    assert "inference_gen_to_count" in roller.to_count().order_by("pk").explain()


def test_an_answer_of_a_model_that_is_gone_saves_nothing(priced, alice):
    make_answer(alice, model_alias=f"gone-{uuid4()}", cache="l1")
    make_answer(alice, cache="l1")
    roller.roll_up()
    # 10 tokens at 3 and 20 at 15 a million.
    assert sorted(AnswerSum.objects.filter(step=DAY).values_list("saved_micro", flat=True)) == [0, 330]
