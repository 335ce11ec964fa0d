"""The sums say what the rows say, whatever happens to the rows, and in between."""

import contextlib
import random
import threading
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection, connections
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
from inference.models import ChatModelConfig, Conversation, Generation, Message, Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def priced(models):
    ChatModelConfig.objects.filter(alias="scripted").update(input_price=Decimal(3), output_price=Decimal(15))
    return models


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


def in_threads(*works):
    """Do all at the same time; what they have raised."""
    errors = []

    def run(work):
        try:
            work()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


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
    key, _ = create_key(bob, "program")
    kept = []

    def arrive():
        user = chance.choice([alice, bob])
        make_answer(user, **random_values(chance), api_key=key if user == bob else None)

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

    for at in range(60):
        chance.choice([arrive, arrive, arrive, end, correct_one, delete, roller.roll_up])()
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


@pytest.mark.django_db(transaction=True)
def test_two_workers_count_each_answer_once(priced, alice, monkeypatch):
    monkeypatch.setattr(roller, "BATCH", 3)
    for _ in range(12):
        make_answer(alice)
    assert in_threads(roller.roll_up, roller.roll_up) == []
    roller.roll_up()
    assert of_sums() == of_rows()
    assert sum(AnswerSum.objects.filter(step=DAY).values_list("answers", flat=True)) == 12


@pytest.mark.django_db(transaction=True)
def test_two_that_count_other_answers_of_one_histogram_lose_none(models, alice, bob, monkeypatch):
    for _ in range(2):
        # Of each other row than the histogram is one alone.
        make_answer(alice, ago=0, model_alias="one")
        make_answer(bob, ago=0, model_alias="other")
        if not LatencySum.objects.exists():
            roller.roll_up()
    read, both_have_read = roller._latencies_at, threading.Barrier(2)

    def read_at_the_same_time(keys):
        rows = read(keys)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.3)
        return rows

    monkeypatch.setattr(roller, "_latencies_at", read_at_the_same_time)
    monkeypatch.setattr(roller, "BATCH", 1)
    assert in_threads(roller._count_some, roller._count_some) == []
    assert of_sums() == of_rows()


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_is_being_deleted_does_not_end(priced, alice):
    answer = make_answer(alice, status=Status.STREAMING, ended_at=None)
    is_noted, has_ended, ended = threading.Event(), threading.Event(), []

    def wait(**_kwargs):
        is_noted.set()
        has_ended.wait(0.3)

    def end():
        is_noted.wait(5)
        ended.append(Generation.objects.get(pk=answer.pk).end("Text.", status=Status.FINISHED))
        has_ended.set()

    pre_delete.connect(wait, sender=Generation)
    try:
        assert in_threads(Conversation.objects.filter(owner=alice).delete, end) == []
    finally:
        pre_delete.disconnect(wait, sender=Generation)
    assert ended == [False]


@pytest.mark.django_db(transaction=True)
def test_a_deletion_and_a_late_cost_do_not_wait_for_each_other(priced, alice, monkeypatch):
    counted = make_answer(alice)
    book(counted, tokens=5)
    roller.roll_up()
    uncounted = make_answer(alice)
    conversation = counted.message.conversation
    Message.objects.filter(pk=uncounted.message_id).update(conversation=conversation)
    correct(counted.pk, input_tokens=9, output_tokens=9, estimated=True)
    has_row, is_deleting = threading.Event(), threading.Event()
    if connection.vendor == "sqlite":
        is_deleting.set()  # It has one lock for all.
    change_sums = roller.hold

    def hold():
        if threading.current_thread() is booker:
            has_row.set()
            is_deleting.wait(5)
        change_sums()

    def note(instance, **_kwargs):
        if instance.pk == uncounted.pk:
            is_deleting.set()

    def show_booked():
        nonlocal booker
        booker = threading.current_thread()
        Generation.objects.show_booked(counted.pk)

    def delete():
        has_row.wait(5)
        Conversation.objects.get(pk=conversation.pk).delete()

    booker = None
    monkeypatch.setattr(roller, "hold", hold)
    pre_delete.connect(note, sender=Generation)
    try:
        assert in_threads(show_booked, delete) == []
    finally:
        pre_delete.disconnect(note, sender=Generation)
    assert AnswerSum.objects.get(step=DAY).answers == 2


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
