"""The gate: what keeps a model back, and that each reason has a sentence."""

import json

import pytest

from llmsite.core.errors import InvalidInput
from training.gate import Thresholds, decide, sentence
from training.tests.making import side


def results(*, heldout=None, cases=None, judge=None):
    """Results in which nothing has changed, but for what is given of `after`."""
    return {
        "heldout": {"before": side(), "after": side(**(heldout or {}))},
        "cases": {"before": side(), "after": side(**(cases or {}))},
        **({"judge": judge} if judge else {}),
    }


def judged(rate, low=0.1, high=0.9):
    return {"model": "echo", "count": 10, "rate": rate, "low": low, "high": high}


def codes(measured, **thresholds):
    return [reason.code for reason in decide(measured, Thresholds(**thresholds)).reasons]


def test_what_is_no_worse_passes():
    assert decide(results()).passed
    assert decide(results(heldout={"loss": 1.0}, cases={"rouge_l": 0.9}, judge=judged(0.8))).passed


def test_where_a_judge_was_asked_for_nothing_passes_without_it():
    verdict = decide(results(), is_judged=True)

    assert [reason.code for reason in verdict.reasons] == ["not_judged"]
    assert "corrections" in sentence(verdict.as_rows()[0])
    assert decide(results(judge=judged(0.8)), is_judged=True).passed


@pytest.mark.parametrize(
    ("measured", "code"),
    [
        (results(heldout={"loss": 2.05}), "loss_grew"),
        (results(heldout={"loss": None}), "loss_grew"),
        (results(heldout={"exact_match": 0.47}), "exact_match_fell"),
        (results(heldout={"rouge_l": 0.47}), "rouge_l_fell"),
        (results(cases={"exact_match": 0.47}), "exact_match_fell"),
        (results(cases={"rouge_l": 0.47}), "rouge_l_fell"),
        (results(judge=judged(0.45)), "judge_prefers_before"),
        ({}, "too_few_rows"),
        (results(heldout={"count": 0}, cases={"count": 0}), "too_few_rows"),
        (results(heldout={"count": 0, "loss": 0.0, "rouge_l": 0.0}), "too_few_held_out"),
        ({"cases": results()["cases"]}, "too_few_held_out"),
    ],
)
def test_what_is_worse_is_kept_back_and_says_why(measured, code):
    verdict = decide(measured)

    assert [reason.code for reason in verdict.reasons] == [code]
    assert not verdict.passed
    (stored,) = json.loads(json.dumps(verdict.as_rows()))
    assert "%(" not in sentence(stored)


@pytest.mark.parametrize(
    "measured",
    [
        results(heldout={"loss": 2.04}),
        results(heldout={"rouge_l": 0.48}),
        results(cases={"loss": 9.0}),  # Of cases the answers count, not how likely the expected words are.
        results(judge=judged(0.5)),
        results(cases={"count": 0, "loss": 0.0, "exact_match": 0.0, "rouge_l": 0.0}),
    ],
)
def test_what_is_within_the_limits_passes(measured):
    assert decide(measured).passed


def test_thresholds_move_the_limits():
    assert codes(results(heldout={"loss": 2.04}), loss_growth_most=0.0) == ["loss_grew"]
    assert codes(results(heldout={"rouge_l": 0.4}), score_drop_most=0.2) == []
    assert codes(results(), rows_least=21) == ["too_few_rows"]
    assert codes(results(), heldout_least=21) == ["too_few_held_out"]
    assert codes({"cases": results()["cases"]}, heldout_least=0) == []
    assert codes(results(), cases_rouge_least=0.6) == ["cases_below"]
    assert codes(results(judge=judged(0.6)), win_rate_least=0.7) == ["judge_prefers_before"]


def test_all_that_is_wrong_is_said():
    measured = results(heldout={"loss": 3.0, "rouge_l": 0.1}, judge=judged(0.0))

    assert codes(measured, cases_rouge_least=0.6) == [
        "loss_grew",
        "rouge_l_fell",
        "cases_below",
        "judge_prefers_before",
    ]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"loss_growth": 0.1}, "thresholds.loss_growth"),
        ({"loss_growth_most": "0.1"}, "thresholds.loss_growth_most"),
        ({"loss_growth_most": True}, "thresholds.loss_growth_most"),
        ({"win_rate_least": 1.1}, "thresholds.win_rate_least"),
        ({"score_drop_most": -0.1}, "thresholds.score_drop_most"),
        ({"cases_rouge_least": float("nan")}, "thresholds.cases_rouge_least"),
        ({"rows_least": 0}, "thresholds.rows_least"),
        ({"rows_least": 1.5}, "thresholds.rows_least"),
        ({"rows_least": True}, "thresholds.rows_least"),
        ({"heldout_least": -1}, "thresholds.heldout_least"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(given, field):
    with pytest.raises(InvalidInput) as refused:
        Thresholds.read(given)

    assert refused.value.field == field


def test_thresholds_are_stored_and_read_again():
    chosen = Thresholds(rows_least=3, win_rate_least=0.6)

    assert Thresholds.read(json.loads(json.dumps(chosen.as_dict()))) == chosen
    assert Thresholds.read(None) == Thresholds()
