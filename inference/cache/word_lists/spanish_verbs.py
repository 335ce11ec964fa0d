"""Regular Spanish verbs in the forms of the third person, so that one line of synonyms serves them all."""

import re

_ENDINGS = {
    "ar": ("ar", "a", "an", "ó", "aron", "aba", "aban", "ará", "arán", "ado", "ada", "ados", "adas", "ando"),
    "er": ("er", "e", "en", "ió", "ieron", "ia", "ian", "erá", "erán", "ido", "ida", "idos", "idas", "iendo"),
    "ir": ("ir", "e", "en", "ió", "ieron", "ia", "ian", "irá", "irán", "ido", "ida", "idos", "idas", "iendo"),
}
_PRESENT, _PAST, _PARTICIPLES = slice(1, 3), slice(3, 7), slice(9, 13)


def conjugated(lines: str) -> dict[str, str]:
    """Form → the same form of the first verb of its line."""
    same: dict[str, str] = {}
    for line in lines.strip().splitlines():
        verbs = [_forms(verb) for verb in line.split()]
        same |= {form: first for verb in verbs for first, form in zip(verbs[0], verb, strict=True)}
    return same


def passives(verbs: str) -> list[tuple[re.Pattern[str], str]]:
    """se fundó → fue fundado, for verbs of which nobody could think that somebody did it to himself."""
    rules = []
    for verb in verbs.split():
        forms = _forms(verb)
        participle = forms[_PARTICIPLES][0]
        for se, helper in ((forms[_PAST], "fue"), (forms[_PRESENT], "es")):
            rules.append((re.compile(rf"(?<!\S)se (?:{'|'.join(se)})(?!\S)"), f" {helper} {participle} "))
        others = "|".join(forms[_PARTICIPLES][1:])
        rules.append((re.compile(rf"(?<=(?:es|on|ue|ra|an) )(?:{others})(?!\S)"), f" {participle} "))
    return rules


def _forms(verb: str) -> tuple[str, ...]:
    stem, ending = verb[:-2], verb[-2:]
    return tuple(stem + end for end in _ENDINGS[ending])
