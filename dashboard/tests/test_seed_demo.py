"""Invented answers: as many as asked for, the same for a seed, counted, and never beside those of people."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from dashboard import seeding
from dashboard.models import DAY, AnswerSum
from dashboard.tests.making import make_answer
from dashboard.tests.test_roller import of_rows, of_sums
from feedback.models import Feedback
from inference.models import Generation

pytestmark = pytest.mark.django_db


def seed(*arguments):
    call_command("seed_demo", *arguments, stdout=(said := StringIO()), stderr=StringIO())
    return said.getvalue()


def test_a_site_is_filled_and_its_sums_are_those_of_the_rows():
    assert seed("--generations", "400", "--days", "3") == "400 answers over 3 days are written and counted.\n"
    assert Generation.objects.count() == 400
    assert not Generation.objects.filter(rolled_up=False).exists()
    assert sum(AnswerSum.objects.filter(step=DAY).values_list("answers", flat=True)) == 400
    assert Feedback.objects.exists()
    assert of_sums() == of_rows()


def test_a_seed_gives_the_same_answers():
    until = datetime(2026, 5, 4, 12, tzinfo=UTC)
    one, same, other = (list(seeding.answers(300, days=9, seed=at, until=until)) for at in (1, 1, 2))
    assert one == same
    assert [answer.values for answer in one] != [answer.values for answer in other]
    assert len({answer.pk for answer in one}) == 300
    assert all(answer.moment <= until for answer in one)


def test_answers_of_people_are_left_alone(alice):
    make_answer(alice)
    with pytest.raises(CommandError, match="already"):
        seed("--generations", "5")
    assert Generation.objects.count() == 1
    seed("--generations", "5", "--force", "--until", timezone.now().isoformat()[:19])
    assert Generation.objects.count() == 6


@pytest.mark.parametrize("arguments", [("--generations", "0"), ("--until", "soon")])
def test_nonsense_is_refused(arguments):
    with pytest.raises(CommandError):
        seed(*arguments)
    assert not Generation.objects.exists()
