"""Likeness of answers, and how sure a share is."""

import pytest

from training.scores import exact_match, rouge_l, wilson


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris.", "Paris."),
        ("  paris. ", "PARIS."),
        ("two\n words", "two words"),
        ("ﬁne", "fine"),  # One character, which is two after NFKC.
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),
    ],
)
def test_what_differs_in_form_alone_is_an_exact_match(answer, expected):
    assert exact_match(answer, expected)
    assert rouge_l(answer, expected) == 1.0


@pytest.mark.parametrize(("answer", "expected"), [("Paris", "Lyon"), ("Paris.", "Paris"), ("", "Paris")])
def test_another_text_is_none(answer, expected):
    assert not exact_match(answer, expected)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        # Lin 2004: police killed the gunman / police kill the gunman, the gunman kill police
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        ("one two three four", "one three", 2 * 2 / 6),
        ("a b c", "x y z", 0.0),
        ("", "Paris", 0.0),
        ("Paris", "", 0.0),
        ("", "", 1.0),
        ("?!", "?!", 1.0),
        ("?!", "!?", 0.0),
        ("日本語", "日本語", 1.0),
    ],
)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(answer, expected, score):
    assert rouge_l(answer, expected) == pytest.approx(score)


def test_rouge_l_is_the_same_in_both_directions():
    pair = ("the quick brown fox jumps over the dog", "the brown dog jumps over a quick fox")
    assert rouge_l(*pair) == rouge_l(*reversed(pair)) < 1


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # By hand from the formula; statsmodels' proportion_confint(method="wilson") gives the same.
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (50, 100, 0.403832, 0.596168),
        (1, 1, 0.206549, 1.0),
    ],
)
def test_the_interval_is_wilsons(successes, count, low, high):
    interval = wilson(successes, count)

    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-5)
    assert interval.rate == successes / count
