"""The chain from an answer to the words behind it, and from a person to what was made of theirs."""

import pytest

from feedback.tests.making import make_answer, make_feedback
from inference.models import ChatModelConfig, Generation
from training import trace
from training.models import DatasetRow
from training.tests.making import make_adapter, make_local_model, make_run, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def loop(alice, bob, db):
    """Alice's feedback in a version, a run on it, its adapter behind a model, and Bob's answer from it."""
    ChatModelConfig.objects.filter(provider="local").delete()
    feedback = make_feedback(alice)
    version = make_version()
    DatasetRow.objects.create(version=version, number=0, feedback=feedback, user=alice)
    run = make_run(alice, version=version)
    adapter = make_adapter(run)
    make_local_model(adapter=adapter.name)
    message = make_answer(bob, adapter=adapter.name)

    class Loop:
        pass

    loop = Loop()
    loop.feedback, loop.version, loop.run, loop.adapter, loop.message = (
        feedback,
        version,
        run,
        adapter,
        message,
    )
    loop.generation = Generation.objects.get(message=message)
    # And another loop, which hangs together with nothing of this one.
    other = make_version("Others")
    DatasetRow.objects.create(version=other, number=0, feedback=make_feedback(bob), user=bob)
    make_adapter(make_run(bob, version=other))
    return loop


@pytest.mark.parametrize(
    "start", ["generation", "message", "adapter", "run", "version", "feedback", "person", "spaces"]
)
def test_the_whole_chain_hangs_on_each_of_its_links(loop, start):
    wanted = {
        "person": "alice",
        "adapter": loop.adapter.name,
        "spaces": f"  {loop.run.pk}\n",
    }.get(start) or str(getattr(loop, start).pk)

    chain = trace.find(wanted)

    assert [row.pk for row in chain.feedback] == [loop.feedback.pk]
    assert [row.pk for row in chain.versions] == [loop.version.pk]
    assert [row.pk for row in chain.runs] == [loop.run.pk]
    assert [row.pk for row in chain.adapters] == [loop.adapter.pk]
    assert [row.adapter for row in chain.models] == [loop.adapter.name]
    assert (chain.answers, chain.feedback_total) == (1, 1)


def test_an_answer_without_an_adapter_hangs_on_nothing(bob):
    chain = trace.find(str(make_answer(bob).pk))

    assert (chain.feedback, chain.versions, chain.runs, chain.adapters, chain.answers) == ([], [], [], [], 0)


def test_a_person_has_only_the_feedback_that_was_used(loop, alice):
    make_feedback(alice)

    assert [row.pk for row in trace.find("alice").feedback] == [loop.feedback.pk]


def test_two_versions_with_the_same_words_are_both_there(loop, alice):
    later = make_version()
    DatasetRow.objects.create(version=later, number=0, feedback=loop.feedback, user=alice)
    DatasetRow.objects.create(version=later, number=1, feedback=loop.feedback, user=alice)

    chain = trace.find(str(loop.feedback.pk))

    assert {row.pk for row in chain.versions} == {loop.version.pk, later.pk}
    assert len(chain.versions) == 2
    assert chain.feedback_total == 1


@pytest.mark.parametrize(
    "text", ["", "nobody", "00000000-0000-0000-0000-000000000001", "' OR 1=1 --", "x" * 300]
)
def test_what_is_not_there_is_not_found(loop, text):
    assert trace.find(text) is None


def test_many_answers_are_not_all_counted(loop, bob, monkeypatch):
    monkeypatch.setattr(trace, "MOST_COUNTED", 3)
    for _ in range(5):
        make_answer(bob, adapter=loop.adapter.name)

    chain = trace.find(loop.adapter.name)

    assert chain.answers == 3
    assert chain.has_more_answers
