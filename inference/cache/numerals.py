"""Numbers in one form: 1,000 and a thousand are 1000; 3.5 and 3.50 stay what they are."""

import re
from collections.abc import Sequence

from inference.cache.word_lists.shape import Language

_GROUPED = {",": re.compile(r"[1-9]\d{0,2}(?:,\d{3})+$"), ".": re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+$")}
_ORDINAL = re.compile(r"(\d+)\.?(?:st|nd|rd|th|º|ª|o|a|er|ro|ra|do|da)$")
_ROMAN = re.compile(r"(?=[IVX]{2,}$)X{0,3}(?:IX|IV|V?I{0,3})$")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}


def plain_number(token: str, language: Language | None) -> str:
    """A number without its groups. A decimal stays as written: version 3.1 is not version 3.10."""
    if language and _GROUPED[language.thousands].match(token):
        return token.replace(language.thousands, "")
    if ordinal := _ORDINAL.match(token):
        return f"{ordinal[1]}."
    return token


def roman(token: str) -> str:
    """A Roman number of two letters or more as digits; anything else as it is."""
    if not _ROMAN.match(token):
        return token
    values = [_ROMAN_VALUES[letter] for letter in token]
    return str(sum(-one if one < after else one for one, after in zip(values, [*values[1:], 0], strict=True)))


def join_number_words(tokens: Sequence[str], language: Language) -> list[str]:
    """`tokens` with each number in words as digits, and ordinals as digits with a point."""
    joined: list[str] = []
    at = 0
    while at < len(tokens):
        length, value = _number_at(tokens, at, language)
        if length:
            joined.append(str(value))
            at += length
        else:
            joined.append(
                f"{language.ordinals[tokens[at]]}." if tokens[at] in language.ordinals else tokens[at]
            )
            at += 1
    return joined


def _number_at(tokens: Sequence[str], start: int, language: Language) -> tuple[int, int]:
    """How many tokens from `start` on are one number in words, and its value."""
    total = part = 0
    at, last = start, 0
    while at < len(tokens):
        word = tokens[at]
        if word in language.numbers and _fits(language.numbers[word], last):
            last = language.numbers[word]
            part += last
        elif word in language.scales and (at > start or word != "hundred"):
            scale = language.scales[word]
            part = (part or 1) * scale if scale > 100 or part < 10 else part + scale
            if scale > 100:
                total, part = total + part, 0
            last = 0
        elif word != language.number_joint or at == start or not _goes_on(tokens, at, last, language):
            break
        at += 1
    return at - start, total + part


def _fits(value: int, last: int) -> bool:
    """Whether `value` goes on a number that ended in `last`: twenty one, but not one two."""
    return last == 0 or (last >= 20 and value < 10) or (last >= 100 and value < 100)


def _goes_on(tokens: Sequence[str], at: int, last: int, language: Language) -> bool:
    """Whether the "and" at `at` is inside of a number: two hundred and five, treinta y dos."""
    value = language.numbers.get(tokens[at + 1]) if at + 1 < len(tokens) else None
    if value is None:
        return False
    if language.number_joint == "y":
        return last in range(30, 100) and value < 10
    return tokens[at - 1] in language.scales
