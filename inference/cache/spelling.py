"""Which capitals of a text say something: mg is not Mg, -r is not -R, but paris is Paris.

The encoder reads small letters only, so its vectors know nothing of this.
"""

import re
from collections.abc import Sequence

from inference.cache.word_lists.spelling import (
    ANY_CASE,
    BEFORE_A_SYMBOL,
    CASE_MATTERS,
    SMALL,
    SMALL_ANYWHERE,
)

SHORT = 5
"""Up to so many letters a word may be a unit, a symbol, an acronym or a value."""
_LETTERS = re.compile(r"[^\W\d_]+")
_INITIALS = re.compile(r"(?:[A-Za-z]\.){2,}$")
_CODE = re.compile(r"[\d_@/\\:.`\"]|^-\w|^--")
_ENDS_A_SENTENCE = frozenset(".!?¿¡…")


def without_shouting(text: str) -> str:
    """A text all in capitals in small letters, but for what may be a symbol in it."""
    if not text.isupper() or " " not in text:
        return text
    return _LETTERS.sub(lambda found: _quietly(found[0]), text)


def _quietly(word: str) -> str:
    small = word.lower()
    is_word = small in SMALL or small in ANY_CASE or (len(word) > 3 and small not in CASE_MATTERS)
    return small if is_word and small != "us" else word


def is_title(pieces: Sequence[str]) -> bool:
    """Whether nearly every word has a capital, so that one says nothing."""
    words = [piece for piece in pieces if piece[0].isalpha()][1:]
    return len(words) > 2 and sum(word[0].isupper() for word in words) > 0.8 * len(words)


def with_telling_capitals(pieces: Sequence[str]) -> list[str]:
    """`pieces` in small letters, but for those whose capitals may tell them from another word."""
    in_title = is_title(pieces)
    settled = []
    starts = True
    before = ""
    for at, piece in enumerate(pieces):
        after = pieces[at + 1] if at + 1 < len(pieces) else ""
        if piece == "I" and not _is_symbol(before, after, starts=starts):
            settled.append("i")
        else:
            settled.append(_settled(piece, before, has_free_capital=starts or in_title))
        starts = piece in _ENDS_A_SENTENCE or (starts and not piece[0].isalnum())
        before = piece
    return settled


def _is_symbol(before: str, after: str, *, starts: bool) -> bool:
    return not after[:1].isalpha() or after == "is" or (not starts and before.lower() in BEFORE_A_SYMBOL)


def _settled(piece: str, before: str, *, has_free_capital: bool) -> str:
    small = piece.casefold()
    is_measured = before[:1].isdigit()
    if small in ANY_CASE and not is_measured:
        return small
    if _INITIALS.match(piece):
        return small
    if _CODE.search(piece):
        return piece
    return _LETTERS.sub(
        lambda found: _word(found[0], has_free_capital=has_free_capital, is_measured=is_measured), piece
    )


def _word(word: str, *, has_free_capital: bool, is_measured: bool) -> str:
    small = word.casefold()
    if word == small or (is_measured and len(word) <= SHORT):
        return word
    if small in ANY_CASE:
        return small
    if word[1:] != word[1:].lower():
        return word
    return small if _may_have_capital(small, has_free_capital=has_free_capital) else word


def _may_have_capital(small: str, *, has_free_capital: bool) -> bool:
    """Whether a capital at the beginning of a word leaves it the same word."""
    if small in CASE_MATTERS and not (has_free_capital and small in SMALL):
        return False
    if small in SMALL_ANYWHERE or (has_free_capital and small in SMALL):
        return True
    return len(small) > (2 if has_free_capital else SHORT)
