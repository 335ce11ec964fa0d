"""Words without their endings. Only an ending that leaves a word what it is comes off, and it is told."""

import re
from dataclasses import dataclass

from inference.cache.word_lists.shape import Language


@dataclass(frozen=True, slots=True)
class Inflected:
    """`ending` is "" or "s" (a plural, or English he/she/it), "n" (they), "past", "future", "would"."""

    base: str
    ending: str = ""


def without_ending(word: str, language: Language) -> Inflected:
    """The dictionary form of `word`, or something that only words of the same dictionary form share."""
    if word in language.irregular:
        return Inflected(*language.irregular[word])
    if word in language.invariable or len(word) < 4 or not word.replace("ñ", "n").isalpha():
        return Inflected(word)
    return _spanish(word) if language.thousands == "." else _english(word)


def _english(word: str) -> Inflected:
    if word.endswith("ied"):
        return Inflected(word[:-3] + "y", "past")
    if word.endswith("ed") and len(word) > 4 and word[-3] != "e":
        return Inflected(_without_ed(word[:-2]), "past")
    if word.endswith("ies") and len(word) > 4:
        return Inflected(word[:-3] + "y", "s")
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return Inflected(word[:-2], "s")
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return Inflected(word[:-1], "s")
    return Inflected(word)


def _without_ed(stem: str) -> str:
    """The verb whose past is `stem` + ed: stopp → stop, us → use. A wrong guess is a miss."""
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    return stem + "e" if _SILENT_E.search(stem) else stem


_SILENT_E = re.compile(
    r"(?:[vcguz]|[^aeious][aeiou]s|[^aeiou][bdgtkp]l|^[^aeiou]*[aeiouy][^aeiouwxy]|[^aeiou][aiu]t|[^aeiou][aiu]d|"
    r"[^aeiou][iu]r|[^aeiou]in|[^aeiou]u[mn])$"
)


_SPANISH_ENDINGS = (
    # A pattern, what is put in its place, what it says. The third persons of one tense are one form.
    (re.compile(r"(?<=\w{2})(?:ó|aron|aba|aban)$"), "ar", "past"),
    (re.compile(r"(?<=\w{2})(?:ió|ieron)$"), "er", "past"),
    (re.compile(r"(?<=\w[aei]r)(?:á|án)$"), "", "future"),
    (re.compile(r"(?<=\w[aei]r)(?:ia|ian)$"), "", "would"),
    (re.compile(r"(?<=[ae])n$"), "", "n"),
    (re.compile(r"ces$"), "z", "s"),
    (re.compile(r"(?<=[aeiouáéíóú]s)es$"), "", "s"),
    (re.compile(r"(?<=[lrndjyz])es$"), "", "s"),
    (re.compile(r"(?<=[aeiouáéíóú])s$"), "", "s"),
)


def _spanish(word: str) -> Inflected:
    for pattern, instead, ending in _SPANISH_ENDINGS:
        found = pattern.search(word)
        if found and found.start() >= 2:
            return Inflected(word[: found.start()] + instead, ending)
    return Inflected(word)
