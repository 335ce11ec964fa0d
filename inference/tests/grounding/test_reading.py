"""Words, sentences, languages, and how sure one can be: the parts that read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.search import Passage
from inference.grounding.confidence import ANSWERED_FROM, are_about, asks_about_all, confidence
from inference.grounding.extract import extract
from inference.grounding.languages import question_language, speaks
from inference.grounding.words import content_words, sentences, share_found
from inference.tests.grounding.test_prompt import source

FOX = "The red fox lives in the wood. It hunts mice at night. Its den has three entrances."


def passage(text=FOX, *, vector=None):
    return Passage(
        chunk=1,
        document=None,
        version=None,
        collection=None,
        title="",
        page=None,
        start=0,
        end=len(text),
        heading="",
        text=text,
        score=1.0,
        vector_score=vector,
        lexical_score=None,
        language="",
    )


def test_words_are_compared_without_accents_endings_and_what_says_nothing():
    assert content_words("¿Dónde vivían los zorros?") == content_words("vivian zorros")
    assert content_words("How many foxes are there in 2024?") == ["fox", "2024"]
    assert share_found(content_words("hunting mice"), FOX) == 1
    assert share_found([], FOX) == 0


def test_what_is_written_without_spaces_is_compared_by_pairs():
    assert content_words("法国的首都") == ["法国", "国的", "的首", "首都"]
    assert share_found(content_words("法国的首都是哪里？"), "巴黎是法国的首都，也是最大的城市。") > 0.5
    assert share_found(content_words("法国的首都是哪里？"), "狐狸住在森林里。") == 0
    assert content_words("Python3的版本") == ["python3", "的版", "版本"]


def test_what_two_questions_find_has_to_be_about_the_second():
    found = [passage()]
    assert are_about(found, "And when was that?")
    assert are_about(found, "And when does it hunt?")
    assert not are_about(found, "What is the capital of Mongolia?")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("He said “no.” She left.", ["He said “no.”", "She left."]),
        ("It costs 3.50 here.", ["It costs 3.50 here."]),
        ("Head\n\nBody", ["Head", "Body"]),
        ("- one\n- two", ["- one", "- two"]),
        ("", []),
    ],
)
def test_sentences(text, parts):
    assert sentences(text) == parts


def test_the_sentence_that_answers_comes_first_and_is_cited():
    others = source("Foxes are animals. Bears are animals too.")

    assert extract("When does the fox hunt mice?", [others, source(FOX)], most=2) == [
        "“It hunts mice at night.” [2]\n\n",
        "“Foxes are animals.” [1]",
    ]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("The fox is safe [2].", r"The fox is safe \[2]."),
        ("A fox ![x](http://evil.example/p.png)", r"A fox !\[x](http\://evil.example/p.png)"),
        ("A fox [here](<//evil.example>) \\[2]", r"A fox \[here](\<//evil.example>) \\\[2]"),
        ("A fox <http://evil.example> &#91;2]", r"A fox \<http\://evil.example> \&#91;2]"),
        ("A fox at www.evil.example or a@evil.example", r"A fox at www\.evil.example or a\@evil.example"),
        ("A *red* _fox_ `x` ~y~", r"A \*red\* \_fox\_ \`x\` \~y\~"),
        # What is no markup stays as it is, for whoever reads the answer as plain text.
        (
            "The fox_den is 2 * 3 m < 9 & (AT&T) 10:30 C:\\dir #1!",
            "The fox_den is 2 * 3 m < 9 & (AT&T) 10:30 C:\\dir #1!",
        ),
    ],
)
def test_what_is_quoted_is_shown_as_it_is_written(text, quoted):
    assert "".join(extract("fox", [source(text)], most=1)) == f"“{quoted}” [1]"


@given(st.text(alphabet="[]()!<>\\`*_~&;:/@.#www2x “”", min_size=1))
def test_nothing_is_lost_where_markup_is_escaped(text):
    written = "fox " + " ".join(text.split())
    answer = "".join(extract("fox", [source(written)], most=9))

    shown = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", answer)
    for sentence in sentences(written):
        assert f"“{sentence}” [1]" in shown
    assert re.findall(r"(?<!\\)(?:\\\\)*(\[.)", answer) == ["[1"] * len(sentences(written))


async def test_the_language_of_a_question():
    assert await question_language("How many points did the Panthers give up?") == "en"
    assert await question_language("¿Cuántos puntos dejaron escapar en defensa los Panthers?") == "es"
    assert await question_language("Hi!") == ""


@pytest.mark.parametrize(
    ("languages", "language", "expected"),
    [
        ([], "es", True),
        (["en"], "es", False),
        (["en"], "", True),
        (["en", "es-MX"], "es", True),
        (["EN"], "en", True),
    ],
)
def test_who_speaks_what(languages, language, expected):
    assert speaks(languages, language) is expected


class TestConfidence:
    ENCODER = "all-MiniLM-L6-v2"

    def of(self, question, *passages, encoder=ENCODER):
        return confidence(question, passages, encoder=encoder)

    def test_words_and_vectors_that_agree_are_an_answer(self):
        assert self.of("Where does the red fox live?", passage(vector=0.8)) > 0.9

    def test_neither_is_none(self):
        assert self.of("Who won the match in Madrid?", passage(vector=0.1)) < 0.05

    def test_more_of_either_is_more(self):
        question = "Where does the brown fox live?"
        assert self.of(question, passage(vector=0.3)) < self.of(question, passage(vector=0.6))
        assert self.of("Where do bears live?", passage(vector=0.5)) < self.of(question, passage(vector=0.5))

    def test_without_vectors_and_for_other_encoders_the_words_decide(self):
        question = "Where does the red fox live?"
        assert self.of(question, passage()) == self.of(question, passage(vector=0.2), encoder="another")
        assert self.of(question, passage()) > ANSWERED_FROM
        assert self.of("Who won the match in Madrid?", passage()) < ANSWERED_FROM

    def test_nothing_found_is_nothing(self):
        assert self.of("Where does the red fox live?") == 0

    @pytest.mark.parametrize(
        ("question", "expected"),
        [
            ("What is the key?", False),
            ("Give me the list", False),
            ("What is the point?", False),
            ("What are the main points of this text?", True),
            ("Summarize this document.", True),
            ("What is this document about?", True),
            ("Resume los puntos principales del texto", True),
            ("Summarize the chapter about foxes", False),
            ("What about it?", False),
        ],
    )
    def test_questions_about_the_documents_as_such(self, question, expected):
        assert asks_about_all(question) is expected
