"""`manage.py evaluate_answers`: how good the confidence is, measured on files."""

import json

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from embeddings.tests.conftest import encoder, model_process, served  # noqa: F401 - fixtures
from inference.grounding.confidence import ANSWERED_FROM, Signs
from inference.grounding.evaluation import Case, judge_anew, measures

ANIMALS = ("fox", "bear", "heron", "otter", "badger", "salmon", "lizard", "beetle")
PLACES = ("wood", "cave", "marsh", "river", "meadow", "stream", "desert", "garden")
PASSAGES = [
    {
        "id": animal,
        "article": at,
        "text": f"The common {animal} lives mostly near the {place} of this region.",
    }
    for at, (animal, place) in enumerate(zip(ANIMALS, PLACES, strict=True))
]
QUESTIONS = [
    {"question": f"Where does the common {animal} live?", "gold_passage_ids": [animal]} for animal in ANIMALS
]


@pytest.fixture
def run(tmp_path, capsys):
    def command(passages=PASSAGES, questions=QUESTIONS, **options):
        paths = []
        for name, rows in (("passages", passages), ("questions", questions)):
            paths.append(tmp_path / f"{name}.jsonl")
            paths[-1].write_text("\n".join(map(json.dumps, rows)))
        call_command("evaluate_answers", passages=paths[:1], questions=paths[1:], **options)
        return capsys.readouterr().out

    return command


@pytest.mark.usefixtures("model_process")
class TestCommand:
    def test_each_question_is_asked_where_it_has_an_answer_and_where_not(self, run):
        found = json.loads(run(json=True))

        assert (found["cases"], found["embedder"]) == (2 * len(QUESTIONS), "scripted")
        # The scripted encoder has no numbers of its own, so the words decide; here they tell all.
        assert found["all"]["auc"] == 1
        assert set(found["fitted_anew"]["numbers"]) == {
            "constant",
            "similarity",
            "in_passage",
            "in_sentence",
        }
        assert found["fitted_anew_by_words_alone"]["numbers"]["similarity"] == 0

    def test_people_read_lines(self, run):
        lines = run().splitlines()

        assert lines[0] == "16 questions, half of them without an answer there, scripted"
        assert lines[2].split() == ["auc", "1.000"]

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"passages": PASSAGES[:1]}, "two articles at least"),
            ({"questions": []}, "questions about them"),
            ({"questions": [{"question": "Who?", "gold_passage_ids": ["wolf"]}]}, "no passage wolf"),
            ({"questions": [{"question": "Who?"}]}, "line 1: gold_passage_ids"),
        ],
    )
    def test_what_is_wrong_is_told(self, run, wrong, message):
        with pytest.raises(CommandError, match=message):
            run(**wrong)


def test_as_many_files_of_each():
    with pytest.raises(CommandError, match="as many files"):
        call_command("evaluate_answers", passages=["a", "b"], questions=["c"])


class TestMeasures:
    def test_of_a_guess_that_is_always_right(self):
        truth = np.array([1.0, 0.0, 1.0, 0.0])

        assert measures(truth, truth) == {
            "auc": 1.0,
            "accuracy": 1.0,
            "answered_where_there_is_none": 0.0,
            "not_answered_where_there_is_one": 0.0,
            "brier": 0.0,
            "ece": 0.0,
        }

    def test_of_one_that_knows_nothing(self):
        found = measures(np.full(4, 0.5), np.array([1.0, 0.0, 1.0, 0.0]))

        assert (found["auc"], found["brier"], found["ece"]) == (0.5, 0.25, 0.0)
        assert (found["accuracy"], found["answered_where_there_is_none"]) == (0.5, 1.0)

    def test_of_one_that_is_too_sure(self):
        found = measures(np.array([0.95, 0.95, 0.95, 0.95]), np.array([1.0, 0.0, 1.0, 0.0]))

        assert found["ece"] == pytest.approx(0.45)

    def test_numbers_that_are_fitted_find_what_decides(self):
        random = np.random.default_rng(7)
        found = [
            Case(Signs(float(near), float(random.random()), 0.0), bool(near > 0.5), str(at % 10))
            for at, near in enumerate(random.random(400))
        ]

        fit, measured = judge_anew(found)

        assert fit.similarity > 10 * abs(fit.in_passage)
        assert measured["accuracy"] > 0.95
        assert fit.probability(Signs(0.9, 0.5, 0.0)) > ANSWERED_FROM > fit.probability(Signs(0.1, 0.5, 0.0))
