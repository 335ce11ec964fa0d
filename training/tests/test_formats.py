"""The matrix of formats and shapes, each with a small file of its own, and what is wrong with rows."""

import io
import json

import pytest

from training.formats import files, shapes
from training.formats.files import Broken
from training.formats.problems import Unreadable
from training.formats.reader import Good, Head, read
from training.rows import is_row
from training.tests.files import PAIRS, WRITERS, as_csv, as_parquet, gpt, human, json_lines, turn, typed


def chat(asked: str, said: str) -> list[dict]:
    return [turn("user", asked), turn("assistant", said)]


def each(make) -> list[dict]:
    return [make(asked, said) for asked, said in PAIRS]


RIGHT = [{"messages": chat(asked, said)} for asked, said in PAIRS]
BETTER = [{"prompt": [turn("user", asked)], "chosen": said, "rejected": "No."} for asked, said in PAIRS]
RATED = [{"prompt": [turn("user", asked)], "completion": said, "label": True} for asked, said in PAIRS]

# shape: (records, the rows they are)
SHAPES = {
    "alpaca": (each(lambda q, a: {"instruction": q, "input": "", "output": a}), RIGHT),
    "alpaca_instances": (
        each(lambda q, a: {"id": "x", "instruction": q, "instances": [{"input": "", "output": a}]}),
        RIGHT,
    ),
    "sharegpt": (each(lambda q, a: {"conversations": [human(q), gpt(a)], "tools": "[]"}), RIGHT),
    "messages": (each(lambda q, a: {"messages": chat(q, a)}), RIGHT),
    "messages ": (
        each(
            lambda q, a: {"messages": [turn("user", typed(q), loss_weight=0.0), turn("assistant", typed(a))]}
        ),
        RIGHT,
    ),
    "completion": (each(lambda q, a: {"prompt": q, "completion": a}), RIGHT),
    "completion ": (each(lambda q, a: {"Question": q, "Answer": a}), RIGHT),
    "completion  ": (
        each(lambda q, a: {"prompt": [turn("user", q)], "completion": [turn("assistant", a)]}),
        RIGHT,
    ),
    "preference": (each(lambda q, a: {"prompt": q, "chosen": a, "rejected": "No."}), BETTER),
    "preference ": (
        each(
            lambda q, a: {
                "prompt": [turn("user", q)],
                "chosen": [turn("assistant", a)],
                "rejected": [turn("assistant", "No.")],
            }
        ),
        BETTER,
    ),
    "preference  ": (
        each(lambda q, a: {"prompt": q, "chosen": chat(q, a), "rejected": chat(q, "No.")}),
        BETTER,
    ),
    "preference_conversations": (
        each(lambda q, a: {"chosen": chat(q, a), "rejected": chat(q, "No.")}),
        BETTER,
    ),
    "preference_messages": (
        each(
            lambda q, a: {
                "chosen_messages": [turn("user", typed(q)), turn("assistant", typed(a))],
                "rejected_messages": [turn("user", typed(q)), turn("assistant", typed("No."))],
            }
        ),
        BETTER,
    ),
    "sharegpt_preference": (
        each(lambda q, a: {"conversations": [human(q)], "chosen": gpt(a), "rejected": gpt("No.")}),
        BETTER,
    ),
    "alpaca_preference": (
        each(lambda q, a: {"instruction": q, "input": "", "chosen": a, "rejected": "No."}),
        BETTER,
    ),
    "openai_preference": (
        each(
            lambda q, a: {
                "input": {"messages": [turn("user", q)]},
                "preferred_output": [turn("assistant", a)],
                "non_preferred_output": [turn("assistant", "No.")],
            }
        ),
        BETTER,
    ),
    "rated": (each(lambda q, a: {"prompt": q, "completion": a, "label": True}), RATED),
    "rated ": (
        each(lambda q, a: {"prompt": [turn("user", q)], "completion": [turn("assistant", a)], "label": True}),
        RATED,
    ),
    "rated_messages": (each(lambda q, a: {"messages": chat(q, a), "label": True}), RATED),
    "rated_sharegpt": (each(lambda q, a: {"conversations": [human(q), gpt(a)], "kto_tag": True}), RATED),
    "rated_alpaca": (each(lambda q, a: {"instruction": q, "output": a, "label": True}), RATED),
    "text": (each(lambda q, a: {"text": f"{q} {a}"}), [{"text": f"{q} {a}"} for q, a in PAIRS]),
}
# A table holds texts, and turns as JSON in a cell.
IN_TABLES = {
    "alpaca",
    "sharegpt",
    "messages",
    "completion",
    "completion ",
    "preference",
    "preference_conversations",
    "alpaca_preference",
    "rated",
    "rated_messages",
    "rated_sharegpt",
    "rated_alpaca",
    "text",
}
MATRIX = [(kind, shape) for kind in WRITERS for shape in SHAPES if kind != "csv" or shape in IN_TABLES]


def read_all(kind: str, data: bytes, **columns: str):
    head, *rest = read(kind, data, columns=columns)
    assert isinstance(head, Head)
    rows = [found.row for found in rest if isinstance(found, Good)]
    assert all(is_row(row, head.layout) for row in rows)
    return head, rows, [found for found in rest if isinstance(found, Broken)]


def problems(records: list[dict], **columns: str) -> list[tuple[int, str, dict]]:
    _, _, broken = read_all("jsonl", json_lines(records), **columns)
    return [(one.line, one.code, one.data) for one in broken]


@pytest.mark.parametrize(("kind", "shape"), MATRIX)
def test_each_shape_in_each_format(kind, shape):
    records, expected = SHAPES[shape]
    head, rows, broken = read_all(kind, WRITERS[kind](records))

    assert (head.shape, rows, broken) == (shape.strip(), expected, [])


class TestPlainText:
    def test_its_paragraphs_are_the_rows(self):
        _, rows, _ = read_all("txt", b"\n\nFoxes are\nanimals.\n \n\nOwls are birds.\n\n")
        assert rows == [{"text": "Foxes are\nanimals."}, {"text": "Owls are birds."}]

    def test_its_lines_where_no_line_is_blank(self):
        _, rows, _ = read_all("txt", "Füchse\r\nEulen\r\n".encode())
        assert rows == [{"text": "Füchse"}, {"text": "Eulen"}]

    def test_a_row_knows_its_line(self):
        found = list(read("txt", b"\n\nOne\nand a half.\n\nTwo.", columns={}))
        assert [one.line for one in found[1:]] == [3, 6]


class TestJson:
    def test_a_list_in_an_object_is_found(self):
        data = json.dumps({"version": "1", "note": "[", "data": SHAPES["alpaca"][0]}).encode()
        assert read_all("json", data)[1] == RIGHT

    def test_names_that_are_wrong_do_no_harm(self):
        records = SHAPES["messages"][0]
        assert read_all("json", json_lines(records))[1] == RIGHT
        assert read_all("jsonl", json.dumps(records).encode())[1] == RIGHT

    def test_each_row_has_its_line(self):
        data = b'[\n  {\n    "prompt": "a",\n    "completion": "b"\n  },\n  {"prompt": "a"}\n]'
        _, rows, broken = read_all("json", data)
        assert (len(rows), [(one.line, one.code) for one in broken]) == (1, [(6, "empty")])

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            (b'[\n{"prompt": "a", "completion": "b"},\n{"prompt"', 3),
            (b'[{"a": 1}\n\n{"a": 2}]', 3),
            (b"[1,", 1),
        ],
    )
    def test_where_it_breaks_off_is_told(self, data, line):
        with pytest.raises(Unreadable) as told:
            list(read("json", data, columns={}))
        assert (told.value.code, told.value.line) == ("not_json", line)

    def test_marks_of_utf_8_and_utf_16_are_understood(self):
        text = json_lines(SHAPES["alpaca"][0]).decode()
        assert read_all("jsonl", text.encode("utf-8-sig"))[1] == RIGHT
        assert read_all("jsonl", text.encode("utf-16"))[1] == RIGHT


class TestTables:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_whatever_parts_their_cells(self, delimiter):
        assert read_all("csv", as_csv(SHAPES["alpaca"][0], delimiter))[1] == RIGHT

    def test_a_row_with_other_cells_than_columns_has_its_line(self):
        data = b'prompt,completion\n"two\nlines","b"\nonly one\n\nc,d,e\nx,y\n'
        _, rows, broken = read_all("csv", data)
        assert [(one.line, one.code, one.data["count"]) for one in broken] == [
            (4, "cells", 1),
            (6, "cells", 3),
        ]
        assert len(rows) == 2

    def test_a_quotation_without_its_end(self):
        _, rows, broken = read_all("csv", b'prompt,completion\na,b\nc,"d\ne,f\n')
        assert (len(rows), [(one.line, one.code) for one in broken]) == (1, [(3, "not_csv")])

    def test_a_file_of_one_column_is_text(self):
        assert read_all("csv", b"text\nFoxes\nOwls\n")[1] == [{"text": "Foxes"}, {"text": "Owls"}]


class TestParquet:
    def test_what_is_no_text_is_told_by_its_row(self):
        data = as_parquet(
            [{"prompt": b"\x80\x04raw", "completion": "b"}, {"prompt": None, "completion": "b"}]
        )
        head, _, broken = read_all("parquet", data)
        assert head.shape == "completion"
        assert [(one.line, one.code) for one in broken] == [(1, "no_text"), (2, "empty")]

    @pytest.mark.parametrize("cut", [8, -8])
    def test_a_damaged_one(self, cut):
        data = as_parquet(SHAPES["alpaca"][0])[:cut]
        with pytest.raises(Unreadable, match="damaged"):
            list(read("parquet", data, columns={}))

    def test_values_of_other_columns_that_cannot_be_had_do_no_harm(self):
        """A moment in the year 1143914305 is none in Python."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = io.BytesIO()
        at = pa.array([2**55, 5], pa.timestamp("ms"))
        pq.write_table(pa.table({"At": at, "Prompt": ["a", "b"], "reply": ["b", "c"]}), file)
        head, rows, broken = read_all("parquet", file.getvalue(), completion="Reply")
        assert (rows, broken) == ([{"messages": chat("a", "b")}, {"messages": chat("b", "c")}], [])
        assert head.mapping == {"at": "left_out", "prompt": "question", "completion": "answer"}

    def test_columns_that_nobody_knows_are_named(self):
        with pytest.raises(Unreadable) as refusal:
            read_all("parquet", as_parquet([{"one": 1, "two": 2}]))
        assert (refusal.value.code, refusal.value.data) == ("no_shape", {"names": "one, two"})

    def test_one_that_would_be_too_large(self, monkeypatch):
        monkeypatch.setattr(files, "MOST_UNPACKED", 10)
        with pytest.raises(Unreadable, match="too_large"):
            list(read("parquet", as_parquet(SHAPES["alpaca"][0]), columns={}))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_more_rows_than_are_read(monkeypatch, kind):
    monkeypatch.setattr(files, "MOST_ROWS", 2)
    with pytest.raises(Unreadable) as told:
        list(read(kind, WRITERS[kind](SHAPES["alpaca"][0]), columns={}))
    assert (told.value.code, told.value.line) == ("too_many_rows", 3)


GOOD = {"messages": chat("a", "b")}


class TestRowsThatAreNotRight:
    @pytest.mark.parametrize(
        ("messages", "code"),
        [
            ([], "no_turns"),
            ("nonsense", "no_turns"),
            ({"role": "user"}, "no_turns"),
            (["hello"], "no_message"),
            ([turn("user", "a"), turn("wizard", "b")], "role"),
            ([turn("user", "a"), {"content": "b"}], "role"),
            ([turn("user", "a"), turn("assistant", " ")], "empty"),
            ([turn("user", "a"), turn("assistant", None)], "empty"),
            ([turn("user", ""), turn("assistant", "b")], "empty"),
            ([turn("assistant", "b")], "first_turn"),
            ([turn("system", "a"), turn("assistant", "b")], "first_turn"),
            ([turn("system", "a")], "first_turn"),
            ([turn("user", "a")], "last_turn"),
            ([turn("user", "a"), turn("system", "s"), turn("assistant", "b")], "late_system"),
            ([turn("user", {"a": 1}), turn("assistant", "b")], "no_text"),
            ([turn("user", [{"type": "image_url", "image_url": {}}]), turn("assistant", "b")], "part"),
            ([turn("user", [7]), turn("assistant", "b")], "no_text"),
            ([turn("user", "a\x07"), turn("assistant", "b")], "control"),
        ],
    )
    def test_conversations(self, messages, code):
        assert [(line, found) for line, found, _ in problems([GOOD, {"messages": messages}])] == [(2, code)]

    @pytest.mark.parametrize(
        ("record", "code"),
        [
            ({"prompt": "a", "chosen": "b", "rejected": " b "}, "same_answers"),
            ({"prompt": "a", "chosen": "b"}, "empty"),
            ({"prompt": "a", "chosen": [turn("user", "b")], "rejected": "c"}, "last_turn"),
            ({"prompt": [turn("assistant", "a")], "chosen": "b", "rejected": "c"}, "first_turn"),
        ],
    )
    def test_preference_pairs(self, record, code):
        good = {"prompt": "a", "chosen": "b", "rejected": "c"}
        assert [found for _, found, _ in problems([good, record])] == [code]

    def test_pairs_of_two_conversations_that_differ_before_the_answer(self):
        good = {"chosen": chat("a", "b"), "rejected": chat("a", "c")}
        other = {"chosen": chat("a", "b"), "rejected": chat("x", "c")}
        assert [found for _, found, _ in problems([good, other])] == ["other_prompt"]

    @pytest.mark.parametrize("label", [None, "good", 2, 0.5, "", []])
    def test_thumbs(self, label):
        good = {"prompt": "a", "completion": "b", "label": 0}
        assert [found for _, found, _ in problems([good, {**good, "label": label}])] == ["label"]

    @pytest.mark.parametrize("label", ["False", False, 0, "0", "no", -1])
    def test_thumbs_down_in_any_words(self, label):
        _, [row], _ = read_all("jsonl", json_lines([{"prompt": "a", "completion": "b", "label": label}]))
        assert row["label"] is False

    @pytest.mark.parametrize(
        "history", [5, True, "ab", {"x": 1}, ["a"], [["a"]], [["a", ""]], [["a", "b", "c"]]]
    )
    def test_what_was_said_before(self, history):
        good = {"instruction": "a", "output": "b", "history": [["x", "y"]]}
        assert len(problems([good, {**good, "history": history}])) == 1

    def test_values_that_nobody_thought_of(self, monkeypatch):
        def required_text(value, name):
            return value["never"] if value == "b" else value

        monkeypatch.setattr(shapes, "required_text", required_text)
        rows = [{"instruction": "x", "output": said} for said in "abc"]
        assert problems(rows) == [(2, "values", {})]

    def test_a_label_that_is_no_rating_makes_no_rating(self):
        head, rows, _ = read_all("jsonl", json_lines([{"text": "Foxes", "label": "animals"}]))
        assert (head.shape, rows, head.mapping["label"]) == ("text", [{"text": "Foxes"}], "left_out")


class TestTurns:
    def test_tools_are_told_as_what_was_said(self):
        called = [{"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}]
        messages = [
            turn("developer", "Be brief."),
            turn("user", "Find foxes."),
            turn("assistant", None, tool_calls=called),
            turn("tool", "two foxes", tool_call_id="1"),
            turn("tool", "three foxes", tool_call_id="2"),
            turn("assistant", "Five."),
        ]
        _, [row], _ = read_all("jsonl", json_lines([{"messages": messages}]))

        assert [one["role"] for one in row["messages"]] == [
            "system",
            "user",
            "assistant",
            "user",
            "assistant",
        ]
        assert '"name": "find"' in row["messages"][2]["content"]
        assert row["messages"][3]["content"] == "two foxes\n\nthree foxes"

    def test_what_a_model_has_thought_is_not_learnt(self):
        said = [{"type": "reasoning", "value": "Hm."}, {"type": "text", "value": "An animal."}]
        messages = [turn("user", "What is a fox?"), turn("assistant", said)]
        _, [row], _ = read_all("jsonl", json_lines([{"messages": messages}]))
        assert row == RIGHT[0]

    def test_system_columns_and_what_was_said_before_stand_in_front(self):
        record = {
            "system": "Be brief.",
            "history": [["a", "b"]],
            "instruction": "c",
            "input": "d",
            "output": "e",
        }
        _, [row], _ = read_all("json", json.dumps([record]).encode())
        assert [one["content"] for one in row["messages"]] == ["Be brief.", "a", "b", "c\n\nd", "e"]

    def test_names_of_columns_may_be_given(self):
        head, [row], _ = read_all("csv", b"Frage,Antwort,id\na,b,1\n", prompt="frage", completion="ANTWORT")
        assert row == GOOD
        assert head.mapping == {"id": "left_out", "prompt": "question", "completion": "answer"}
