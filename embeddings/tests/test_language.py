"""The language of a text, or an honest nothing."""

import pytest

from embeddings.language import detect


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The river passes the town, and people like to walk along its banks in the evening.", "en"),
        ("El río pasa por la ciudad, y a la gente le gusta pasear por la orilla al atardecer.", "es"),
        ("Der Fluss fließt durch die Stadt, und die Leute gehen abends gern am Ufer spazieren.", "de"),
        ("Река течёт через город, и люди любят гулять вдоль её берегов по вечерам.", "ru"),
        ("", ""),
        ("930 km", ""),
        ("Ebro", ""),
        ("https://example.org/the/river/passes/the/town 12345 67890", ""),
        ("the_river_passes ana@the.river.passes.the.town <the-river-passes>", ""),
        ("The address of the river\nis http://example.org/el/rio/pasa/por/la/ciudad/y/a/la/gente", "en"),
    ],
)
def test_the_language_is_told_where_it_can_be(text, language):
    assert detect(text) == language


@pytest.mark.parametrize(
    ("question", "language"),
    [("Who discovered the river?", "en"), ("¿Quién descubrió el río?", "es"), ("¿Cuándo nació Goya?", "es")],
)
def test_a_short_question_is_told_among_the_languages_of_an_index(question, language):
    assert detect(question, among=("en", "es")) == language


def test_a_long_word_is_looked_at_once(monkeypatch):
    """Not from each of its letters on: that takes hours."""
    monkeypatch.setattr("embeddings.language.SAMPLE", 500_000)

    assert detect("x" * 500_000) == detect("x" * 1000)


def test_a_long_text_is_judged_by_its_beginning(monkeypatch):
    monkeypatch.setattr("embeddings.language.SAMPLE", 80)
    spanish = "El río pasa por la ciudad, y a la gente le gusta pasear por la orilla. "

    assert detect(spanish * 2 + "The rest is in English, all of it, and there is much of it. " * 50) == "es"
