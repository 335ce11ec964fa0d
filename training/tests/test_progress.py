"""When a run will be done, from what it has logged."""

from datetime import timedelta

import pytest
from django.utils import timezone

from training.models import Metric, RunStatus
from training.progress import Progress, progress_of
from training.tests.making import make_run

pytestmark = pytest.mark.django_db


def running(*ages, total=100, **values):
    """A run whose steps 1, 2, … were logged so many seconds ago."""
    run = make_run(status=RunStatus.RUNNING, total_steps=total, step=len(ages), **values)
    now = timezone.now()
    Metric.objects.bulk_create(
        Metric(run=run, step=number, loss=1.0, logged_at=now - timedelta(seconds=age))
        for number, age in enumerate(ages, 1)
    )
    return run


def seconds_left(run):
    return round(progress_of(run).left.total_seconds())


def test_a_run_takes_as_long_as_its_steps_did():
    run = running(8, 6, 4, 2, 0)

    assert seconds_left(run) == 95 * 2
    assert progress_of(run).percent == 5


def test_the_step_that_it_is_at_counts():
    assert seconds_left(running(12, 8, 4)) == 97 * 4 - 4


def test_hours_in_which_nobody_worked_count_for_nothing():
    assert seconds_left(running(9008, 9006, 9004, 2, 0)) == 95 * 2


def test_steps_that_were_not_logged_count():
    run = make_run(status=RunStatus.RUNNING, total_steps=100, step=30)
    now = timezone.now()
    for step in (10, 20, 30):
        Metric.objects.create(run=run, step=step, logged_at=now - timedelta(seconds=30 - step))

    assert seconds_left(run) == 70


@pytest.mark.parametrize("ages", [(), (5,)])
def test_nobody_knows_before_two_steps(ages):
    assert progress_of(running(*ages)).left is None


def test_one_that_waits_has_its_estimate():
    run = make_run(status=RunStatus.QUEUED, estimate={"seconds": 90.0})

    assert progress_of(run).left == timedelta(seconds=90)
    assert progress_of(make_run(status=RunStatus.QUEUED, estimate={"seconds": None})).left is None
    assert progress_of(make_run(status=RunStatus.SUCCEEDED, estimate={"seconds": 9.0})).left is None


def test_one_that_stands_still_goes_at_the_pace_of_the_step_that_it_is_at():
    assert seconds_left(running(900, 899, total=4)) == 899


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (None, ""),
        (timedelta(0), ""),
        (timedelta(seconds=42), "42 s"),
        (timedelta(seconds=89), "89 s"),
        (timedelta(seconds=95), "2 min"),
        (timedelta(minutes=59, seconds=40), "1 h 0 min"),
        (timedelta(hours=5, minutes=20), "5 h 20 min"),
    ],
)
def test_it_is_told_in_words(left, words):
    assert Progress(1, 2, left).left_in_words == words


def test_a_run_whose_steps_nobody_knows_has_done_none():
    assert Progress(0, 0, None).percent == 0
    assert Progress(7, 5, None).percent == 100
