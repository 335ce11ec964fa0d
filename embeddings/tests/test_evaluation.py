"""`manage.py evaluate_retrieval`: the search of this site, measured on files, and no row of it."""

import json

import pytest
from django.core.management import CommandError, call_command

from embeddings.models import SearchIndex

pytestmark = pytest.mark.django_db

PASSAGES = [
    {"id": "p1", "text": "The quick fox lives in a wood near the river."},
    {"id": "p2", "text": "Interest rates were raised by the bank in March."},
    {"id": "p3", "text": "El gato duerme sobre el tejado de la casa grande."},
]
QUESTIONS = [
    {"question": "Where does the fox live?", "gold_passage_ids": ["p1"]},
    {"question": "Who raised interest rates?", "gold_passage_ids": ["p2"]},
    {"question": "¿Dónde duermen los gatos?", "gold_passage_ids": ["p3"]},
    {"question": "nothing of this is anywhere", "gold_passage_ids": ["p9"]},
]


@pytest.fixture
def files(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return str(path)

    return write


def run(files, capsys, *, passages=PASSAGES, questions=QUESTIONS, **options):
    call_command(
        "evaluate_retrieval",
        passages=files("passages.jsonl", passages),
        questions=files("questions.jsonl", questions),
        **options,
    )
    return capsys.readouterr().out


def test_it_tells_how_often_the_right_passage_is_found(model_process, files, capsys):
    found = json.loads(run(files, capsys, json=True))

    assert (found["questions"], found["passages"], found["embedder"]) == (4, 3, "scripted")
    assert found["modes"]["lexical"] == {"recall_at_1": 0.75, "recall_at_5": 0.75, "mrr_at_10": 0.75}
    assert set(found["modes"]) == {"hybrid", "vector", "lexical"}
    hybrid = found["modes"]["hybrid"]
    assert hybrid == {name: found[name] for name in hybrid}
    assert not SearchIndex.objects.exists()


def test_people_read_a_table(model_process, files, capsys):
    lines = run(files, capsys).splitlines()

    assert lines[0] == "4 questions, 3 passages in 3 chunks, scripted"
    assert lines[-1].split() == ["lexical", "0.750", "0.750", "0.750"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"passages": [{"id": "p1"}]}, "passages.jsonl, line 1: text must be a text"),
        ({"passages": ["{"]}, "passages.jsonl, line 1: not valid JSON"),
        ({"questions": [{"question": "a"}]}, "line 1: gold_passage_ids"),
        ({"questions": ["[]"]}, "line 1: must be an object"),
        ({"questions": []}, "a file is empty"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(files, capsys, wrong, message):
    with pytest.raises(CommandError, match=message):
        run(files, capsys, **wrong)


def test_a_missing_file_is_told():
    with pytest.raises(CommandError, match="No such file"):
        call_command("evaluate_retrieval", passages="/nowhere", questions="/nowhere")
