"""What may be shown while an answer is being written."""

import pytest

from inference.engine.text import REPLACEMENT, Detokenizer, StopStrings
from inference.tests.engine.fakes import decode_bytes


def pieces(data: bytes) -> list[str]:
    detokenizer = Detokenizer(decode_bytes)
    return [*(detokenizer.push(byte) for byte in data), detokenizer.flush()]


@pytest.mark.parametrize("text", ["plain", "añb", "👩‍👩‍👧 ok", "日本語", "e\u0301", ""])
def test_a_character_appears_only_when_it_is_whole(text):
    shown = pieces(text.encode())
    assert "".join(shown) == text
    assert not any(REPLACEMENT in piece for piece in shown)


def test_bytes_that_are_no_character_show_as_one_replacement_at_the_latest_at_the_end():
    assert "".join(pieces(b"a\xf0\x9fb")) == f"a{REPLACEMENT}b"
    assert "".join(pieces(b"a\xf0\x9f")) == f"a{REPLACEMENT}"


def test_a_token_that_reads_differently_after_another_keeps_its_space():
    words = {1: "Hello", 2: "▁world", 3: "!"}

    def decode(tokens):
        return "".join(words[token] for token in tokens).replace("▁", " ").lstrip()

    detokenizer = Detokenizer(decode)
    assert [detokenizer.push(token) for token in (1, 2, 2, 3)] == ["Hello", " world", " world", "!"]


def feed(stop, *texts):
    stops, shown = StopStrings(stop), []
    for text in texts:
        piece, stopped = stops.push(text)
        shown.append(piece)
        if stopped:
            return shown, True
    return [*shown, stops.flush()], False


def test_a_stop_string_is_found_across_pieces_and_never_shown():
    assert feed(["END"], "one E", "N", "D two") == (["one ", "", ""], True)


def test_text_is_held_back_only_while_it_can_become_a_stop_string():
    assert feed(["END"], "one E", "Nx", " two") == (["one ", "ENx", " two", ""], False)


def test_the_earliest_of_several_stop_strings_wins():
    assert feed(["wo", "one"], "zero one two") == (["zero "], True)


def test_a_stop_string_that_overlaps_itself():
    assert feed(["aab"], "aa", "ab") == (["", "a"], True)


def test_what_was_held_back_is_shown_at_the_end():
    assert feed(["\n\n"], "line\n") == (["line", "\n"], False)


def test_without_stop_strings_nothing_is_held_back():
    assert feed([], "a", "b") == (["a", "b", ""], False)
