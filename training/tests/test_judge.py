"""The judge: asked in both orders, read strictly, paid by who asks, and forgotten."""

from uuid import uuid4

import pytest

from accounts.models import LedgerEntry
from inference.models import Conversation, Generation, Message
from inference.providers import scripted
from inference.providers.scripted import Script
from llmsite.core.errors import ModelNotFound, SiteError
from training.judge import INSTRUCTIONS, Case, opinion, preferences, question, summary
from training.models import Preference

CASE = Case("Who keeps the bees?", "Ida Marlow.", "Nobody does.", "Ida Marlow keeps them.")


def says(*replies):
    scripted.play(*(Script(pieces=(reply,)) for reply in replies))


# --- Reading it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replies", "preferred", "is_clear"),
    [
        (("A", "B"), Preference.AFTER, True),
        (("B", "A"), Preference.BEFORE, True),
        (("A", "A"), Preference.TIE, True),  # It likes what stands first.
        (("B", "B"), Preference.TIE, True),
        (("T", "B"), Preference.TIE, True),
        (("**A**", "B."), Preference.AFTER, True),
        (("The answer is A.", "The answer is B."), Preference.AFTER, True),
        (("A or B", "B"), Preference.TIE, False),
        (("", "B"), Preference.TIE, False),
        (("a", "b"), Preference.TIE, False),
        (("BANANA", "ATB"), Preference.TIE, False),
    ],
)
def test_only_what_wins_in_both_orders_has_won(replies, preferred, is_clear):
    assert opinion(*replies) == opinion(*replies).__class__(preferred, is_clear)


def test_the_answers_change_places():
    first, second = question(CASE, after_first=True), question(CASE, after_first=False)

    assert first.index(CASE.after) < first.index(CASE.before)
    assert second.index(CASE.before) < second.index(CASE.after)
    assert CASE.expected in first


def test_long_texts_are_cut():
    case = Case("q" * 10_000, "e" * 10_000, "b" * 10_000, "a" * 10_000)

    assert len(question(case, after_first=True)) < 17_000


def test_ties_count_half():
    opinions = [opinion("A", "B")] * 6 + [opinion("B", "A")] * 2 + [opinion("", "")] * 2

    told = summary(opinions, "claude")

    assert {**told, "low": None, "high": None} == {
        "model": "claude",
        "count": 10,
        "wins": 6,
        "losses": 2,
        "ties": 2,
        "unclear": 2,
        "rate": 0.7,
        "low": None,
        "high": None,
    }
    assert 0.39 < told["low"] < 0.4
    assert 0.89 < told["high"] < 0.9


# --- Asking it -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_each_case_is_asked_twice_in_the_name_of_who_wants_it(alice, models):
    says("A", "B", "B", "A", "A", "A")

    opinions = preferences([CASE] * 3, model="scripted", user=alice, conversation=uuid4())

    assert [one.preferred for one in opinions] == ["after", "before", "tie"]
    asked = [call.request for call in scripted.calls]
    assert len(asked) == 6
    for request in asked:
        # No question stands before it: each is a beginning of its own.
        assert [message.role for message in request.messages] == ["system", "user"]
        assert request.messages[0].content == INSTRUCTIONS
        assert request.temperature == 0.0
    assert LedgerEntry.objects.filter(account=alice.pseudonym).count() == 6


@pytest.mark.django_db(transaction=True)
def test_nothing_of_the_cases_stays_among_the_chats(alice, models):
    says("A", "B")

    preferences([CASE], model="scripted", user=alice, conversation=uuid4())

    assert not Conversation.objects.exists()
    assert not Message.objects.exists()
    assert not Generation.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("alias", "error"), [("unavailable", SiteError), ("cut", SiteError), ("gone", ModelNotFound)]
)
def test_a_judge_that_fails_leaves_nothing_either(alice, models, alias, error):
    with pytest.raises(error):
        preferences([CASE], model=alias, user=alice, conversation=uuid4())

    assert not Conversation.objects.exists()
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_stops_between_two_cases(alice, models):
    says("A", "B", "A", "B")
    asked = iter([False, True])

    opinions = preferences(
        [CASE] * 2, model="scripted", user=alice, conversation=uuid4(), should_stop=lambda: next(asked)
    )

    assert len(opinions) == 1
    assert len(scripted.calls) == 2
