"""Pieces cover their pages in order, fit the encoder, and can be found again by their range."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.chunking import MOST_OF_TAIL, chunk, estimate_tokens
from embeddings.parsing import ParsedPage

SENTENCE = "The river passes the old town and the people walk along its banks. "


def page(text, *headings, number=1):
    return ParsedPage(number, text, [(text.index(heading), heading) for heading in headings])


def count_words(texts):
    """An encoder of one token a word, and its two marks."""
    return [2 + len(text.split()) for text in texts]


def texts(pieces):
    return [piece.text for piece in pieces]


ATOMS = [
    "a",
    "río",
    "Sr. ",
    "U.S. ",
    "one two three. ",
    "¿Qué? ",
    "\n",
    "\n\n",
    " ",
    "\t",
    "x" * 90,
    "。",
    "...",
]
MORE_ATOMS = ["- ", "# ", "é\u0301", "🙂", "1. ", "ﬁ", "\u00a0", SENTENCE]
TEXT = st.lists(st.sampled_from(ATOMS + MORE_ATOMS) | st.text(max_size=8), max_size=60).map("".join)


def test_a_paragraph_may_have_no_token():
    """As of characters that an encoder leaves out."""
    [piece] = chunk([ParsedPage(1, "aaaaa\n\n_", [])], count_tokens=None, most_tokens=5, enough_tokens=2)

    assert piece.text == "aaaaa\n\n_"


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, max_size=4), st.integers(5, 60), st.sampled_from([None, count_words]), st.data())
def test_pieces_cover_all_text_once_and_in_order(contents, most, count, data):
    pages = [
        ParsedPage(
            number,
            text,
            [(at, f"h{at}") for at in sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=3)))],
        )
        for number, text in enumerate(contents, start=1)
    ]

    pieces = chunk(pages, count_tokens=count, most_tokens=most, enough_tokens=most // 2)

    for one in pages:
        own = [piece for piece in pieces if piece.page == one.number]
        assert all(
            one.text[piece.start : piece.end] == piece.text == piece.text.strip() != "" for piece in own
        )
        ends = [0, *(piece.end for piece in own)]
        starts = [*(piece.start for piece in own), len(one.text)]
        assert all(
            not one.text[end:start].strip() for end, start in zip(ends, starts, strict=True) if start >= end
        )
        assert all(end <= start for end, start in zip(ends, starts, strict=True))
    assert [piece.page for piece in pieces] == sorted(piece.page for piece in pieces)
    size = count or (lambda many: [estimate_tokens(text) for text in many])
    for piece in pieces:
        ends_page = piece is [one for one in pieces if one.page == piece.page][-1]
        without_tail = piece.text[: 1 - MOST_OF_TAIL] if ends_page else piece.text
        assert size([without_tail])[0] <= most or len(without_tail) == 1


def test_a_piece_ends_with_its_paragraph_where_there_is_enough():
    paragraphs = [SENTENCE * 4, SENTENCE * 5, SENTENCE * 6]

    pieces = chunk(
        [page("\n\n".join(paragraphs))], count_tokens=count_words, most_tokens=100, enough_tokens=40
    )

    assert texts(pieces) == [paragraph.strip() for paragraph in paragraphs]


def test_short_paragraphs_share_a_piece():
    pieces = chunk([page("One.\n\nTwo.\n\nThree.")])

    assert texts(pieces) == ["One.\n\nTwo.\n\nThree."]


def test_a_long_paragraph_is_cut_evenly_between_sentences():
    pieces = chunk([page(SENTENCE * 20)], count_tokens=count_words, most_tokens=102)

    lengths = [len(piece.text.split()) for piece in pieces]
    assert sum(lengths) == 260
    assert max(lengths) - min(lengths) <= 26
    assert all(piece.text.endswith("banks.") for piece in pieces)


@pytest.mark.parametrize(
    "sentence",
    [
        "El Sr. García vive en EE. UU. desde 1990, p. ej. en el n.º 5.",
        "Dr. J. R. Smith came at 5 p.m. with Fig. 3 and e.g. two rivers.",
        "¿Dónde nació el río?",
        "1.2.7. Enlaces duros y blandos.",
        "He said with his low voice: «No.»",
    ],
)
def test_sentences_end_where_they_end_and_not_at_abbreviations(sentence):
    pieces = chunk(
        [page(f"¡Bien! {sentence}")], count_tokens=count_words, most_tokens=2 + len(sentence.split())
    )

    assert texts(pieces) == ["¡Bien!", sentence]


def test_a_word_that_is_cut_is_counted_as_what_it_has_become():
    pieces = chunk([page("río" + "x" * 180)], most_tokens=11)

    assert len(pieces) > 3
    assert max(estimate_tokens(piece.text) for piece in pieces[:-1]) <= 11


def test_a_word_that_the_encoder_does_not_know_has_an_end():
    pieces = chunk([page("x" * 10_000)], count_tokens=count_words, most_tokens=100)

    assert max(len(piece.text) for piece in pieces) <= 800


def test_a_heading_begins_a_piece_and_names_what_follows_on_other_pages_too():
    first = page(f"Rivers\n\n{SENTENCE * 5}\n\nTowns\n\n{SENTENCE * 5}", "Rivers", "Towns")
    second = page(SENTENCE * 5, number=2)

    pieces = chunk([page(SENTENCE, number=0), first, second])

    assert [(piece.page, piece.heading) for piece in pieces] == [
        (0, ""),
        (1, "Rivers"),
        (1, "Towns"),
        (2, "Towns"),
    ]
    assert pieces[2].text.startswith("Towns\n\nThe river")


def test_tiny_sections_share_a_piece_under_the_first_heading():
    pieces = chunk([page("A title\n\nFirst\n\nword\n\nSecond\n\nword", "A title", "First", "Second")])

    assert [(piece.heading, piece.text) for piece in pieces] == [
        ("First", "A title\n\nFirst\n\nword\n\nSecond\n\nword")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "word " * 200_000,
        "." * 300_000,
        "! " * 300_000,
        "河" * 300_000,
        "\n" * 500_000 + "x",
        "a\n" * 200_000,
    ],
    ids=["one word", "no sentence", "dots", "ends", "no spaces", "empty", "lines"],
)
def test_a_megabyte_of_anything_ends_in_pieces(text):
    counted = 0

    def count(many):
        nonlocal counted
        counted += sum(len(one) for one in many)
        return [estimate_tokens(one) for one in many]

    pieces = chunk([page(text)], count_tokens=count)

    assert sum(len(piece.text.replace(" ", "").replace("\n", "")) for piece in pieces) == len(
        "".join(text.split())
    )
    # Each letter is looked at a few times, however long the text is.
    assert counted <= 8 * len(text)


def test_the_estimate_is_of_the_right_size():
    assert 12 <= estimate_tokens(SENTENCE) <= 24
    assert 10 <= estimate_tokens("这条河流经城市，人们喜欢散步") <= 18
    assert estimate_tokens("") == 2


@pytest.mark.parametrize("tail", ["153", "See page 12", "Chapter Twelve Introduction"])
def test_what_is_left_over_at_the_end_of_a_page_is_no_piece_of_its_own(tail):
    body = (SENTENCE * 8).strip()

    pieces = chunk([page(f"{body}\n\n{tail}"), page(tail, number=2), page(f"{body}\n\n{SENTENCE}", number=3)])

    assert texts(pieces) == [f"{body}\n\n{tail}", tail, body, SENTENCE.strip()]


def test_a_heading_that_ends_a_page_names_what_follows_it():
    first = page(f"{SENTENCE * 8}\n\nOwls", "Owls")

    pieces = chunk([first, page(SENTENCE, number=2)])

    assert [(piece.page, piece.heading) for piece in pieces] == [(1, ""), (2, "Owls")]


def test_the_same_text_is_always_cut_alike():
    random = Random(7)
    text = "".join(random.choice([SENTENCE, "\n\n", "Short. ", "word "]) for _ in range(300))

    assert chunk([page(text)]) == chunk([page(text)])
