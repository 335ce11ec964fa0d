"""The check of words, over tables of pairs: what must never be taken for the same, and what should."""

from collections import Counter
from pathlib import Path

import pytest

from inference.cache.folding import clean
from inference.cache.word_gate import (
    depends_on_the_moment,
    depends_on_the_person,
    same_question,
    why_different,
)

DATA = Path(__file__).parent / "data"
LEAST_HIT_RATE = 0.85
"""Of the paraphrases. Those in the last part of the table are beyond what word lists can do."""


def lines(name: str) -> list[str]:
    texts = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [text for text in texts if text and not text.startswith("#")]


def table(name: str) -> list[tuple[str, str]]:
    return [tuple(line.split(" | ")) for line in lines(name)]


TRAPS = table("traps.txt")
PARAPHRASES = table("paraphrases.txt")


def test_the_tables_are_large_enough_and_repeat_nothing():
    for pairs in (TRAPS, PARAPHRASES):
        assert len(pairs) >= 200
        assert all(len(pair) == 2 and pair[0] != pair[1] for pair in pairs)
        assert Counter(pairs).most_common(1)[0][1] == 1


def test_no_trap_is_taken_for_the_same_question():
    assert [pair for pair in TRAPS if same_question(*pair)] == []


def test_the_check_knows_no_first_and_second():
    for a, b in TRAPS + PARAPHRASES:
        assert same_question(a, b) == same_question(b, a), (a, b)


def test_most_paraphrases_are_recognised():
    missed = [pair for pair in PARAPHRASES if not same_question(*pair)]
    assert len(missed) <= (1 - LEAST_HIT_RATE) * len(PARAPHRASES), missed


def test_every_text_asks_what_it_asks():
    for text in {text for pair in TRAPS + PARAPHRASES for text in pair}:
        assert same_question(text, text)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is the capital of Kenya?", "what is the capital of kenya"),
        ("What is Kenya's capital?", "what is kenya's capital?"),
        ("Who was Miguel de Cervantes?", "who was miguel de cervantes"),
        ("Dogs can eat what?", "dogs can eat what?"),
        ("How do I learn JavaScript?", "how do i learn javascript"),
        ("What does NASA do?", "what does nasa do?"),
        ("What Is The Boiling Point Of Water", "What is the boiling point of water?"),
        ("WHY IS THE OCEAN SALTY", "Why is the ocean salty?"),
        ("How heavy is 5mg of salt?", "how heavy is 5 mg of salt"),
        ("Why should I sleep?", "why should i sleep?"),
        ("Who invented C++?", "who invented c++"),
        ("Where did World War II begin?", "where did World war II begin"),
        ("¿Cuál es la capital de España?", "cuál es la capital de españa"),
        ("¿Y qué es el agua?", "¿y qué es el agua?"),
        ("What is 3² in words?", "what is 3² in words"),
        ("How many cups are 1½ litres?", "How many cups are 1½ liters?"),
    ],
)
def test_capitals_that_say_nothing_make_no_difference(a, b):
    assert why_different(a, b) is None


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("3² + 10⁻³ = 1½", "3² + 10⁻³ = 1½"),
        ("H₂O", "H₂O"),
        ("ﬁve\u00a0 “ﬂats” – 1º", 'five "flats" - 1o'),
        ("cafe\u0301²", "café²"),
    ],
)
def test_powers_and_fractions_stay_what_they_are(text, cleaned):
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ("Who won in 2014?", "Who won in 2018?", "number"),
        ("Why does bread rise?", "Why does bread not rise?", "negation"),
        ("When did the war begin?", "Where did the war begin?", "question word"),
        ("Does Alice like Bob?", "Does Bob like Alice?", "order"),
        ("Who is the king of Spain?", "Who was the king of Spain?", "tense or voice"),
        ("What is the metro?", "¿Qué es el metro?", "language"),
        ("Translate to Spanish: the dog", "Translate to Spanish: a dog", "text after the colon"),
        ("Who plays for the Panthers in Rome?", "Who plays for the Panther in Rome?", "name"),
        ("¿Qué es el capital?", "¿Qué es la capital?", "article"),
        ("How do I delete the file?", "How do I delete the files?", "ending"),
        ("Can I sing?", "Must I sing?", "modal"),
        ("What is 5 MPa?", "What is 5 mPa?", "capitals"),
        ("How much is 3²?", "How much is 32?", "number"),
    ],
)
def test_the_reason_is_told(a, b, reason):
    assert why_different(a, b) == reason


@pytest.mark.parametrize(
    "text", ["", " ", "?", "¿", "'s", "🙂", "\0", "a" * 400, "- - -", "'", '"', "x\ny", "'s 's of"]
)
def test_odd_texts_are_compared_as_well(text):
    assert same_question(text, text)
    assert not same_question(text, text + " not this")


def test_long_and_many_lined_texts_are_the_same_only_word_for_word():
    long = "Why is the sky so very blue? " * 20
    assert not same_question(long, long.lower())
    assert not same_question("What is this?\nprint(1)", "what is this?\nprint(1)")


@pytest.mark.parametrize(
    "text",
    [
        "What time is it?",
        "What is the weather today?",
        "Who is the current president of France?",
        "What is the latest version of Django?",
        "What happened last week?",
        "What should I do now?",
        "NOW?",
        "What’s today’s date?",
        "¿Qué hora es?",
        "¿Qué tiempo hace hoy?",
        "¿Quién es el presidente actual?",
        "¿Cuál es la última versión?",
        "¿Qué debo hacer ahora?",
        "Que paso este año?",
    ],
)
def test_what_holds_at_one_time_is_not_kept(text):
    assert depends_on_the_moment(text)


def test_what_people_look_up_daily_is_not_kept():
    assert [text for text in lines("of_the_moment.txt") if not depends_on_the_moment(text)] == []


def test_what_only_has_words_of_it_is_kept():
    assert [text for text in lines("of_any_time.txt") if depends_on_the_moment(text)] == []


@pytest.mark.parametrize("shape", ["{} " + "Lorem ipsum. " * 200, "Lorem ipsum. " * 200 + "{}"])
def test_it_is_seen_before_and_after_a_long_text(shape):
    assert depends_on_the_moment(shape.format("What is the weather in Paris?"))
    assert not depends_on_the_moment(shape.format("What is weather?"))


@pytest.mark.parametrize("text", ["What is my name?", "¿Cómo me llamo?", "¿Dónde está mi pedido?"])
def test_what_holds_for_one_person_is_told_apart(text):
    assert depends_on_the_person(text)
    assert not depends_on_the_moment(text)


@pytest.mark.parametrize(
    "text",
    [
        "How do I know that a proof is right?",
        "Where does snow fall?",
        "What is alternating current?",
        "How does the current in a wire flow?",
        "Who was the last king of France?",
        "What is a mythical animal?",
        "What is the actual size of an atom?",
        "How do I install Python?",
        "¿Quién fue Miguel de Cervantes?",
        "¿Qué es una ley actuarial?",
        "¿Cómo se hace el pan por la mañana?",
        "¿Qué es el hoyo 18?",
    ],
)
def test_similar_words_say_nothing_about_the_moment(text):
    assert not depends_on_the_moment(text)
