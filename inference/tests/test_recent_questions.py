"""Questions that are ready already, for the same words, the same caller and the same models only."""

from dataclasses import replace
from uuid import UUID

import pytest

from accounts.models import ApiKey, User
from inference.ask import Ask, Grounding, Sampling, Shape
from inference.catalogue import Snapshot
from inference.providers.base import ChatMessage
from inference.recent_questions import MOST, MOST_CHARACTERS, RecentQuestions

MODELS = Snapshot({})
ALICE = User(pk=1)
KEY = ApiKey(pk=1)
ASK = Ask(user=ALICE, api_key=KEY, door="rest", prompt="Hello?", request_id="first")


@pytest.fixture
def recent():
    questions = RecentQuestions[str]()
    assert questions.find(ASK, MODELS) is None
    questions.keep(ASK, MODELS, "ready")
    return questions


def test_the_same_question_is_ready(recent):
    assert recent.find(replace(ASK, request_id="second", door="v1"), MODELS) == "ready"


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Hello!"},
        {"system": "Be brief."},
        {"model": "other"},
        {"provider": "echo"},
        {"sampling": Sampling(temperature=0.5)},
        {"choice": 1},
        {"may_be_kept": False},
        {"user": User(pk=2)},
        {"user": User(pk=1)},
        {"api_key": ApiKey(pk=1)},
        {"api_key": None},
    ],
    ids=str,
)
def test_another_question_or_a_caller_who_was_read_anew_is_not(recent, change):
    assert recent.find(replace(ASK, **change), MODELS) is None


def test_nothing_is_there_any_more_when_the_models_were_read_anew(recent):
    assert recent.find(ASK, Snapshot({})) is None
    assert recent.find(ASK, MODELS) is None, "nor is it kept in memory"


def test_what_was_made_ready_for_other_models_meanwhile_is_not_kept(recent):
    newer = Snapshot({})
    recent.find(ASK, newer)
    recent.keep(ASK, MODELS, "ready")
    assert recent.find(ASK, newer) is None


@pytest.mark.parametrize(
    "change",
    [
        {"conversation": UUID(int=1)},
        {"parent": None},
        {"regenerate": UUID(int=1)},
        {"grounding": Grounding()},
        {"history": (ChatMessage("user", "Hi"),)},
        {"shape": Shape(tools=({"type": "function"},))},
        {"prompt": "x" * (MOST_CHARACTERS + 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_depends_on_more_than_its_words_is_never_kept(change):
    questions, ask = RecentQuestions[str](), replace(ASK, **change)
    questions.find(ask, MODELS)
    questions.keep(ask, MODELS, "ready")
    assert questions.find(ask, MODELS) is None


def test_there_are_only_so_many(recent):
    for number in range(MOST):
        recent.keep(replace(ASK, prompt=str(number)), MODELS, "ready")
    assert recent.find(ASK, MODELS)
    assert recent.find(replace(ASK, prompt=str(MOST - 2)), MODELS)
    assert recent.find(replace(ASK, prompt=str(MOST - 1)), MODELS) is None
