"""What is kept of what people write: every word, no control character, and no tag outside of code."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.sanitize import _code_apart, sanitize
from feedback.tests.naughty import FRAGILE, HOSTILE, NO_CHARACTERS, SCRIPT, as_read, has_markup
from llmsite.core.errors import InvalidInput

LIMIT = 1000


def clean(text):
    return sanitize(text, limit=LIMIT, field="comment")


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_stands_as_text_and_no_word_is_lost(text):
    kept = clean(text)
    assert not has_markup(kept)
    assert as_read(kept) == as_read(text)
    assert clean(kept) == kept


def test_a_script_is_kept_as_what_it_says():
    assert clean(SCRIPT) == "&lt;script>alert('xss')&lt;/script>"


@pytest.mark.parametrize("text", FRAGILE)
def test_what_is_no_markup_stays_as_it_was_written(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Write `<b>bold</b>`.",
        "```html\n<p class='x'>Hi</p>\n```",
        "~~~\n<script>run()</script>\n~~~\n\nThat is it.",
        "Use `a<b` and ``c``.",
    ],
)
def test_code_stays_as_it_was_written(text):
    assert clean(text) == text


def test_what_would_swallow_all_that_follows_it_is_no_tag():
    """bleach leaves nothing of it: to a reader of HTML the quotation mark never ends."""
    assert clean("x<y z='and the rest, a<c too") == "x&lt;y z='and the rest, a&lt;c too"


def test_only_code_is_left_alone():
    assert clean("<b> `<b>` <b>\n```\n<b>\n```\n<b>") == "&lt;b> `<b>` &lt;b>\n```\n<b>\n```\n&lt;b>"


@pytest.mark.parametrize("text", ["`<b>", "```\n<b>", "<b>`"])
def test_code_that_does_not_end_is_none(text):
    assert not has_markup(clean(text))


@pytest.mark.parametrize("text", NO_CHARACTERS)
def test_what_is_no_character_is_refused(text):
    with pytest.raises(InvalidInput) as refusal:
        clean(f"before {text} behind")
    assert refusal.value.field == "comment"
    code = next(f"{ord(one):04X}" for one in text if not one.isalnum())
    assert f"U+{code}" in refusal.value.data["reason"]


def test_half_a_character_is_refused():
    with pytest.raises(InvalidInput):
        clean("\ud83d")


def test_the_limit_counts_what_was_written():
    assert clean("é" * LIMIT) == "é" * LIMIT
    with pytest.raises(InvalidInput) as refusal:
        clean("x" * (LIMIT + 1))
    assert str(LIMIT) in refusal.value.data["reason"]


def test_line_ends_are_one_kind_and_outer_blanks_go():
    assert clean(" \r\n one\r\ntwo\rthree \n") == "one\ntwo\nthree"


BLOCKS = re.compile(
    r"(^ {0,3}(?:```|~~~)[^\n]*\n.*?^ {0,3}(?:```|~~~)[ \t]*$|`[^`\n]+`)", re.DOTALL | re.MULTILINE
)
"""What code is, in one expression, which is too slow for long texts."""


@given(
    st.lists(st.sampled_from(["```", "~~~", "`", "\n", "\n```\n", " ", "   ", "a", "\t", "<b>"]), max_size=30)
)
def test_code_is_told_from_the_rest(pieces):
    text = "".join(pieces)
    assert _code_apart(text) == BLOCKS.split(text)


@pytest.mark.parametrize("line", ["```a\n", "~~~\n```a\n", "   ```\n \n```b\n"])
def test_blocks_without_number_that_do_not_end_take_no_time(line):
    """Each of them was once looked for to the end of the text, which here takes minutes."""
    text = line * 100_000 + "<b>"
    assert sanitize(text, limit=len(text)).endswith("&lt;b>")


@given(st.text(alphabet="<>/!?ab img onx='\"=`&;l\nt{", max_size=60))
def test_whatever_is_put_together(text):
    kept = clean(text)
    assert not has_markup(kept)
    assert as_read(as_read(kept)) == as_read(as_read(text)).strip() or as_read(kept) == as_read(text.strip())
    assert clean(kept) == kept
