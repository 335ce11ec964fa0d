"""What a module of this package says about its language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language. All words are folded (`inference/cache/folding.py`)."""

    marks: frozenset[str]
    """Frequent words that tell this language from others."""
    phrases: Sequence[tuple[re.Pattern[str], str]]
    """Ways to say the same, applied in order: each pattern is replaced until it no longer matches."""
    articles: frozenset[str]
    indefinite: frozenset[str]
    """Words before a singular that speaks of any such thing, as a bare plural does: a file, files."""
    generic_plural: frozenset[str]
    """Words before a plural that may still speak of any such thing."""
    helpers: Mapping[str, str]
    """Verb forms that move about in a question and say little themselves, with what is compared of them."""
    modals: frozenset[str]
    """Verbs such as can and must, which move about as well."""
    synonyms: Mapping[str, str]
    """Word → the word that stands for its group."""
    irregular: Mapping[str, tuple[str, str]]
    """Form → dictionary form and ending: "s", "past", "future", "would" or ""."""
    invariable: frozenset[str]
    """Words that only look inflected."""
    literal: frozenset[str]
    """Verbs whose object is the very wording: with them nothing is dropped and nothing stands for another."""
    fronting: frozenset[str]
    """Prepositions of a phrase that may stand before a comma as well as at the end."""
    free_verb_after: frozenset[str]
    """Question words after which the verb may stand before or behind its subject."""
    numbers: Mapping[str, int]
    scales: Mapping[str, int]
    ordinals: Mapping[str, int]
    number_joint: str
    """The word inside a number: two hundred *and* five."""
    thousands: str
    """The character between groups of three digits."""
    moment: re.Pattern[str]
    """Words that make an answer true at one time only."""
    lookup: re.Pattern[str]
    """What people look up daily without such words: the weather, a price, a score."""
    personal: re.Pattern[str]
    """Words that make an answer one person's."""


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def counted(text: str, *, start: int = 0, step: int = 1) -> dict[str, int]:
    """Word → number, for words in the order of their numbers."""
    return {word: start + at * step for at, word in enumerate(text.split())}


def groups(text: str) -> dict[str, str]:
    """Word → first word of its line."""
    lines = [line.split() for line in text.strip().splitlines()]
    return {word: line[0] for line in lines for word in line}


def forms(text: str, ending: str) -> dict[str, tuple[str, str]]:
    """`form=dictionary form` pairs, all with the same ending."""
    pairs = [pair.split("=") for pair in text.split()]
    return {form: (base, ending) for form, base in pairs}


def phrases(lines: str) -> list[tuple[re.Pattern[str], str]]:
    """`pattern → replacement` lines; a pattern matches whole words only, or up to the space it ends with.

    A line that is indented more goes on with the one before.
    """
    pairs = [line.partition("→") for line in re.sub(r"\n {8}", "", lines).strip().splitlines()]
    return [
        (re.compile(rf"(?<!\S)(?:{left.strip()})(?:(?<=\s)|(?!\S))"), f" {right.strip()} ")
        for left, _, right in pairs
    ]
