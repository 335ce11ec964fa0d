"""What rows have in common, and how they are split."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from training.rows import content_of, is_row, line_of, question_of, read_file, split


def row(question: str, answer: str = "b", **more) -> dict:
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        **more,
    }


ROWS = [row(f"Question {number}?") for number in range(100)]


class TestSplit:
    def test_each_row_is_on_one_side_and_as_many_are_held_out_as_was_asked(self):
        train, held = split(ROWS, seed=1, fraction=0.1)
        assert (len(held), sorted(train + held)) == (10, list(range(100)))

    def test_the_same_seed_splits_alike_and_another_one_does_not(self):
        assert split(ROWS, seed=1, fraction=0.2) == split(ROWS, seed=1, fraction=0.2)
        assert split(ROWS, seed=1, fraction=0.2) != split(ROWS, seed=2, fraction=0.2)

    def test_it_goes_by_the_rows_and_not_by_their_places(self):
        _, held = split(ROWS, seed=1, fraction=0.2)
        turned = ROWS[::-1]
        _, held_of_turned = split(turned, seed=1, fraction=0.2)
        assert {line_of(ROWS[at]) for at in held} == {line_of(turned[at]) for at in held_of_turned}

    @pytest.mark.parametrize("seed", range(20))
    def test_twins_are_never_parted(self, seed):
        rows = [row(f"Question {number % 10}?", f"Answer {number}") for number in range(100)]
        train, held = split(rows, seed=seed, fraction=0.25)
        asked = [{question_of(rows[at]) for at in side} for side in (train, held)]
        assert asked[0] & asked[1] == set()
        assert 10 <= len(held) <= 25

    @pytest.mark.parametrize(
        ("rows", "fraction", "held"),
        [
            (ROWS[:2], 0.01, 1),
            (ROWS[:2], 0.99, 1),
            (ROWS[:3], 1.0, 2),
            ([ROWS[0]] * 5, 0.5, 0),
            ([ROWS[0]] * 5 + [ROWS[1]] * 3, 0.1, 3),
            (ROWS, 0.0, 0),
            ([], 0.5, 0),
        ],
    )
    def test_nobody_is_left_without_rows_to_train_on(self, rows, fraction, held):
        sides = split(rows, seed=0, fraction=fraction)
        assert (len(sides[1]), len(sides[0])) == (held, len(rows) - held)


class TestDigests:
    @pytest.mark.parametrize(
        "other", ["WHAT IS  A FOX?", "What is\na fox?", "Ｗhat is a fox?", " What is a fox? "]
    )
    def test_case_spaces_and_forms_make_no_difference(self, other):
        assert question_of(row("What is a fox?")) == question_of(row(other))
        assert content_of(row("What is a fox?")) == content_of(row(other, "B"))

    def test_everything_else_does(self):
        plain = row("a")
        preference = {"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}
        rated = {"prompt": [{"role": "user", "content": "a"}], "completion": "b", "label": True}
        others = [row("ab"), row("a", "c"), preference, rated, {**rated, "label": False}, {"text": "a"}]
        assert len({content_of(one) for one in [plain, *others]}) == 7
        assert question_of(plain) == question_of(preference) == question_of(rated)

    def test_a_system_turn_is_no_question(self):
        system = {"role": "system", "content": "Be brief."}
        assert question_of({"messages": [system, *row("a")["messages"]]}) == question_of(row("a"))


@pytest.mark.parametrize(
    ("wrong", "layout"),
    [
        (row("a", extra=1), "sft"),
        (row(" "), "sft"),
        ({"messages": []}, "sft"),
        ({"messages": row("a")["messages"][:1]}, "sft"),
        ({"messages": row("a")["messages"] * 2 + [{"role": "assistant", "content": "x"}]}, "sft"),
        ({"messages": [{"role": "system", "content": "x"}]}, "sft"),
        ({"messages": "text"}, "sft"),
        (row("a"), "dpo"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "dpo"),
        ({"prompt": row("a")["messages"], "chosen": "a", "rejected": "b"}, "dpo"),
        ({"prompt": row("a")["messages"][:1], "chosen": "a", "rejected": ""}, "dpo"),
        ({"prompt": row("a")["messages"][:1], "completion": "a", "label": 1}, "kto"),
        ({"text": ""}, "text"),
        ({"text": "a"}, "other"),
        ("text", "text"),
    ],
)
def test_what_is_no_row(wrong, layout):
    assert not is_row(wrong, layout)


def test_a_file_is_read_from_any_row_on(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(b"".join(map(line_of, ROWS)))
    assert list(read_file(path)) == ROWS
    assert next(read_file(path, start=42)) == ROWS[42]


def test_children_need_no_django_for_rows():
    code = (
        "import sys, training.rows, training.tokens, training.formats.reader; print('django' in sys.modules)"
    )
    root = Path(settings.BASE_DIR)
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
