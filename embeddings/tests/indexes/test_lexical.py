"""The index of words."""

import re
from uuid import UUID, uuid4

import pytest

from embeddings.indexes.lexical import LexicalIndex, Text


def index_of(*texts, language="en", folder=None):
    """An index of one document; the chunks count from 1."""
    index = LexicalIndex(folder)
    version = uuid4()
    index.change(add=[Text(version, language, list(enumerate(texts, start=1)))])
    return index, version


def found(index, question):
    return [match.chunk for match in index.search(question, 10)]


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("en", "The dogs were running home.", "Did a dog run?"),
        ("es", "Los niños corrían por las calles.", "¿Quién corre en la calle? ¿Un niño?"),
        ("es", "La canción de Málaga", "CANCION DE MALAGA"),
        ("de", "Die Häuser der Stadt", "ein haus in städten"),
        ("pl", "Zażółć gęślą jaźń", "zażółć jaźń"),
        ("zh", "北京是中国的首都", "中国首都在哪里"),
        ("", "Nobody knows this tongue", "TONGUE"),
    ],
)
def test_words_are_found_in_their_other_forms(language, text, question):
    index, _ = index_of("xyz", text, language=language)

    assert found(index, question) == [2]


@pytest.mark.parametrize("question", ["the of and", "", "   ", "?!", "zebra"])
def test_what_says_nothing_or_is_nowhere_finds_nothing(question):
    index, _ = index_of("The cat of the house and the dog")

    assert found(index, question) == []


@pytest.mark.parametrize(
    "question", ['cat AND "dog', "cat:dog^9", "(cat", "+cat -dog", "cat*~2 [a TO b]", "en:cat", "\\cat/ {}"]
)
def test_a_question_is_words_and_never_a_query(question):
    index, _ = index_of("A cat sleeps", "A bird sings")

    assert found(index, question) == [1]


def test_who_says_more_of_it_comes_first_and_scores_are_shares():
    index, _ = index_of("blue whale", "blue blue car", "green car", "old tree", "blue whale song in the sea")

    matches = index.search("the song of a blue whale", 10)

    assert [match.chunk for match in matches] == [5, 1, 2]
    assert all(0 < match.score <= 1 for match in matches)


def test_each_language_is_asked_in_its_own_way():
    index = LexicalIndex()
    index.change(
        add=[Text(uuid4(), "en", [(1, "running dogs")]), Text(uuid4(), "es", [(2, "perros corriendo")])]
    )

    assert (found(index, "dog"), found(index, "perro")) == ([1], [2])


def test_versions_come_and_go():
    index, (first, second) = LexicalIndex(), (uuid4(), uuid4())
    index.change(add=[Text(first, "en", [(1, "one cat")]), Text(second, "en", [(7, "two cats")])])
    assert (dict(index.held()), len(index)) == ({first: 1, second: 7}, 2)
    index.change(remove=[first])
    assert (dict(index.held()), found(index, "cat")) == ({second: 7}, [7])
    index.change(add=[Text(second, "en", [(9, "three cats")])], remove=[first])
    assert (dict(index.held()), found(index, "cat")) == ({second: 9}, [9])


COMMON = [f"the fox {number} of a common wood" for number in range(12)]
RARE = ["a zebra in the wood", "the fox of the wood", "an owl, a hare and a stoat", "a fox and a zebra"]


@pytest.mark.parametrize(
    ("gone", "kept"),
    [
        (COMMON, [*COMMON[:5], *RARE]),
        (["a zebra in the wood"] * 19, RARE),
        (["a xylophone"] * 5, RARE),
        ([*COMMON, *RARE] * 2, RARE),
    ],
    ids=["a-word-of-most", "versions-of-the-right-one", "a-word-of-none-now", "more-gone-than-kept"],
)
def test_what_has_been_deleted_weighs_nothing(gone, kept):
    used, fresh = LexicalIndex(), LexicalIndex()
    # In one change, so that they lie in one file, which keeps all of them.
    former = [Text(uuid4(), "en", [(1000 + at, text)]) for at, text in enumerate(gone)]
    used.change(add=[*former, Text(uuid4(), "en", list(enumerate(kept)))])
    used.change(remove=[text.version for text in former])
    fresh.change(add=[Text(uuid4(), "en", list(enumerate(kept)))])

    for question in ("fox", "a zebra in a wood", "does the xylophone of the zebra play", "owl and fox"):
        scores = dict(used.search(question, 20))
        assert list(scores) == [match.chunk for match in fresh.search(question, 20)]
        # Not quite the same: the lengths of chunks that are gone still count in the average.
        assert scores == pytest.approx(dict(fresh.search(question, 20)), abs=0.1)
        assert all(0 < score <= 1 for score in scores.values())


def test_it_outlives_the_process(tmp_path):
    index, version = index_of("a cat", "a dog", folder=tmp_path)
    del index
    again = LexicalIndex(tmp_path)

    assert (dict(again.held()), found(again, "dogs")) == ({version: 1}, [2])


FILES = ["*.term", "*.idx", "*.pos", "*.fast", "*.fieldnorm", "*.store", "*.del", "meta.json"]


@pytest.mark.parametrize("pattern", FILES)
def test_a_damaged_file_makes_it_start_anew(tmp_path, pattern):
    filled_twice(tmp_path)
    path = next(tmp_path.rglob(pattern))
    content = bytearray(path.read_bytes())
    content[1] ^= 0xFF
    path.write_bytes(content)

    assert dict(LexicalIndex(tmp_path).held()) == {}


@pytest.mark.parametrize("pattern", FILES)
def test_a_missing_file_makes_it_start_anew(tmp_path, pattern):
    filled_twice(tmp_path)
    next(tmp_path.rglob(pattern)).unlink()

    again = LexicalIndex(tmp_path)
    assert (dict(again.held()), found(again, "cat")) == ({}, [])
    assert not list(tmp_path.rglob("*.idx"))  # What nobody would remove any more.
    again.change(add=[Text(uuid4(), "en", [(1, "a bird")])])
    assert found(LexicalIndex(tmp_path), "birds") == [1]


@pytest.mark.parametrize("content", ["{}", "[]", "1", "", '{"segments": [{}]}', '{"segments": [[]]}'])
def test_a_list_of_files_that_says_nothing_makes_it_start_anew(tmp_path, content):
    filled_twice(tmp_path)
    next(tmp_path.rglob("meta.json")).write_text(content)

    assert dict(LexicalIndex(tmp_path).held()) == {}


@pytest.mark.parametrize("other", ["*.fast", "*.term"])
def test_files_that_are_whole_but_do_not_fit_make_it_start_anew(tmp_path, other):
    for name, count in (("one", 3), ("other", 300)):
        texts = [Text(UUID(int=at), "en", [(at, f"cat {at}")]) for at in range(count)]
        index = LexicalIndex(tmp_path / name)
        index.change(add=texts)
        index.change(remove=[UUID(int=0)])
    path = next((tmp_path / "one").rglob("*.term"))
    next((tmp_path / "other").rglob(other)).replace(path)

    assert dict(LexicalIndex(tmp_path / "one").held()) == {}


def filled_twice(folder):
    """Two changes, the second of which has deleted something of the first."""
    index, gone = LexicalIndex(folder), uuid4()
    index.change(add=[Text(gone, "en", [(7, "a dog")]), Text(uuid4(), "en", [(8, "a cat")])])
    index.change(add=[Text(uuid4(), "en", [(9, "two cats")])], remove=[gone])


def test_no_word_of_a_document_lies_on_the_disk():
    index, _ = index_of("xylophone canary")
    terms = [term for term, _ in index._state.searcher.terms_with_prefix("en", "")]

    assert len(terms) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", term) for term in terms)
