"""The sums stay true, and nobody waits in a circle, where several change them at the same time."""

import contextlib
import threading

import pytest
from django.db import connection, connections
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone

from accounts.ledger import correct
from accounts.models import User
from dashboard import roller
from dashboard.counting import FIELDS
from dashboard.models import DAY, AccountSum, AnswerSum, LatencySum
from dashboard.tests.making import make_answer
from dashboard.tests.test_roller import book, of_rows, of_sums
from inference.models import Conversation, Generation, Message, Status

pytestmark = pytest.mark.django_db(transaction=True)


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


@contextlib.contextmanager
def after(signal, sender, receiver):
    """With `receiver`, which comes after those of the site."""
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)


def read_histograms_at_the_same_time(monkeypatch):
    """Let two that add to histograms both read them before one of them writes, where nothing forbids it."""
    read, both_have_read = roller._latencies_at, threading.Barrier(2)

    def read_and_wait(keys):
        rows = read(keys)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.3)
        return rows

    monkeypatch.setattr(roller, "_latencies_at", read_and_wait)


def test_two_workers_count_each_answer_once(priced, alice, monkeypatch):
    monkeypatch.setattr(roller, "BATCH", 3)
    for _ in range(12):
        make_answer(alice)
    assert in_threads(roller.roll_up, roller.roll_up) == []
    roller.roll_up()
    assert of_sums() == of_rows()
    assert sum(AnswerSum.objects.filter(step=DAY).values_list("answers", flat=True)) == 12


def test_two_that_count_other_answers_of_one_histogram_lose_none(models, alice, bob, monkeypatch):
    for _ in range(2):
        # Of each other row than the histogram is one alone.
        make_answer(alice, ago=0, model_alias="one")
        make_answer(bob, ago=0, model_alias="other")
        if not LatencySum.objects.exists():
            roller.roll_up()
    monkeypatch.setattr(roller, "BATCH", 1)
    read_histograms_at_the_same_time(monkeypatch)
    assert in_threads(roller._count_some, roller._count_some) == []
    assert of_sums() == of_rows()


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

    with after(pre_delete, Generation, wait):
        assert in_threads(Conversation.objects.filter(owner=alice).delete, end) == []
    assert ended == [False]


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
    with after(pre_delete, Generation, note):
        assert in_threads(show_booked, delete) == []
    assert AnswerSum.objects.get(step=DAY).answers == 2


def test_a_deletion_and_the_worker_do_not_wait_for_each_other(models, alice, monkeypatch):
    make_answer(alice)
    is_noted, has_sums, hold = threading.Event(), threading.Event(), roller.hold

    def wait(**_kwargs):
        is_noted.set()
        has_sums.wait(0.3)

    def hold_and_tell():
        hold()
        has_sums.set()

    def count():
        is_noted.wait(5)
        roller.roll_up()

    monkeypatch.setattr(roller, "hold", hold_and_tell)
    with after(pre_delete, Generation, wait):
        assert in_threads(Conversation.objects.filter(owner=alice).delete, count) == []
    assert AnswerSum.objects.get(step=DAY).answers == 1


def test_a_deletion_and_the_worker_lose_nothing_of_one_histogram(models, alice, bob, monkeypatch):
    for _ in range(2):
        make_answer(alice, ago=0, model_alias="one")
        gone = make_answer(bob, ago=0, model_alias="other")
        if not LatencySum.objects.exists():
            roller.roll_up()
    kept = Generation.objects.filter(pk=gone.pk).values_list(*FIELDS).get()
    monkeypatch.setattr(roller, "BATCH", 1)
    read_histograms_at_the_same_time(monkeypatch)
    delete = Conversation.objects.get(pk=gone.message.conversation_id).delete
    assert in_threads(roller._count_some, delete) == []
    assert of_sums() == of_rows([kept])


def test_erasures_of_several_do_not_wait_for_each_other(alice, bob, charlie):
    """Each gives sums of two days to nobody, one of them the later day first."""
    today = int(timezone.now().timestamp()) // DAY * DAY
    # Those of one deletion go in the order of their keys, the last first.
    first, last = sorted([alice, bob], key=lambda user: user.pk)
    for user, start in ((last, today), (first, today - DAY), (charlie, today - DAY), (charlie, today)):
        AccountSum.objects.create(account=user.pseudonym, start=start, answers=1)
    for start in (today - DAY, today):
        AccountSum.objects.create(account=roller.NOBODY, start=start, answers=1)
    has_begun, other_has_ended, gone = threading.Event(), threading.Event(), []

    def wait(instance, **_kwargs):
        gone.append(instance.pk)
        if instance.pk == last.pk:
            has_begun.set()
            other_has_ended.wait(0.3)

    def delete_another():
        has_begun.wait(5)
        User.objects.filter(pk=charlie.pk).delete()
        other_has_ended.set()

    with after(post_delete, User, wait):
        delete = User.objects.filter(pk__in=[alice.pk, bob.pk]).delete
        assert in_threads(delete, delete_another) == []
    assert gone[:2] == [last.pk, first.pk]
    assert list(AccountSum.objects.values_list("account", "answers")) == [(roller.NOBODY, 3)] * 2
