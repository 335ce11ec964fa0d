"""A question as the gate of the semantic cache compares it.

What may be left out, or said with another word, is listed; everything else stays and has to be equal. So a
word that nobody thought of makes two questions different, never the same.
"""

import re
from dataclasses import dataclass
from functools import lru_cache, partial

from inference.cache.folding import PLAIN_ASKING, clean, fold, fold_accents, without_accents
from inference.cache.inflection import without_ending
from inference.cache.numerals import join_number_words, plain_number, roman
from inference.cache.spelling import is_title, with_telling_capitals, without_shouting
from inference.cache.word_lists.en import ENGLISH
from inference.cache.word_lists.es import SPANISH
from inference.cache.word_lists.shape import Language, words

MOST_CHARACTERS = 400
"""Longer texts are seldom asked twice in other words, and have more room for a small difference."""
REWRITES = 8
"""How often a phrase is looked for again in what another one left."""

_TOKEN = re.compile(
    r"""
    "[^"]*" | `[^`]*`                                   # quoted
    | (?<![\w'])'[^']{2,}?'(?!\w)                       # quoted as well
    | \w+://\S*[\w/]                                    # an address
    | (?:[A-Za-z]\.){2,}                                # initials
    | (?<!\S)--?[A-Za-z][\w-]*                           # a flag of a command
    | \.\d+
    | -?\d+(?:[.,:/]\d+)*(?:\.?(?:st|nd|rd|th|[oaºª]|er|ro|ra|do|da)(?!\w))?
    | \w+(?:['_.@/\\:-]+\w+)*(?:\+\+|\#)?'?             # a word or an identifier
    | [^\s\w]                                           # anything else
    """,
    re.VERBOSE,
)
_FLAG = re.compile(r"--?[A-Za-z]")
_NO_MEANING = frozenset("?!.;…()[]\"'")
"""Marks that are dropped; all others (+, -, %, <, …) count as words."""
_PREFIXES = words("un in im ir non re de dis anti pre post co e over under mis ex sub")
"""Before a hyphen these belong to the word; any other hyphen is a space."""
_CONTRACTIONS = [
    (re.compile(rf"\b(?:{short})\b", re.IGNORECASE), long)
    for short, long in (
        ("can't|cannot|cant", "can not"),
        ("won't|wont", "will not"),
        ("ain't", "is not"),
        (r"(\w+)n't", r"\1 not"),
        ("(do|does|did|is|are|was|were|could|would|should|have|has|had)nt", r"\1 not"),
        (r"(\w+)'re", r"\1 are"),
        (r"(\w+)'ve", r"\1 have"),
        (r"(\w+)'ll", r"\1 will"),
        (r"(\w+)'d", r"\1 would"),
        ("i'm|im", "i am"),
        ("let's", "let us"),
        ("(what|who|where|when|why|how|it|that|there|here|he|she)'s", r"\1 is"),
        ("(what|who|where|when|how|that)s", r"\1 is"),
    )
]


@dataclass(frozen=True, slots=True)
class Word:
    """One word. `surface` is the form that was written, `before` the article or number in front of it."""

    base: str
    ending: str
    surface: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text asks. `helpers` are the forms of be and do in order; `names` are written with a capital."""

    language: Language | None
    words: tuple[Word, ...]
    helpers: tuple[str, ...]
    modals: tuple[str, ...]
    names: frozenset[str]
    payload: str = ""

    @property
    def bases(self) -> list[str]:
        return [word.base for word in self.words]


@lru_cache(maxsize=512)
def read(text: str) -> Reading | None:
    """The reading of `text`; None where it is too long or of too many parts to be compared by words."""
    if len(text) > MOST_CHARACTERS or "```" in text or "\n" in text.strip():
        return None
    text, payload = _payload(without_shouting(clean(text)))
    pieces = _TOKEN.findall(_expanded(_with_marks_of_numbers(text)))
    language = _language(pieces)
    names = _names(pieces)
    is_formula = any(piece in "+-*/=<>^" for piece in pieces)
    pieces = with_telling_capitals(pieces)
    pieces = [part for piece in pieces for part in _parts(piece, language, is_formula=is_formula)]
    if language is None:
        return Reading(None, tuple(Word(piece, "", piece) for piece in pieces), (), (), names, payload)
    pieces = _rewritten(_with_asking_accents(pieces, language), language)
    if language.literal.intersection(pieces):
        return _literally(pieces, language, payload)
    return _compose(_in_order(pieces, language), language, names, payload)


def _payload(text: str) -> tuple[str, str]:
    """What comes after a colon is taken as it is: it is what a question is about."""
    text = re.sub(r"^(?:question|quick question|pregunta|duda)\s*[:,]\s*", "", text, flags=re.IGNORECASE)
    before, colon, after = text.partition(": ")
    return (before, after.strip()) if colon else (text, "")


def _with_marks_of_numbers(text: str) -> str:
    """A factorial and a foot are no punctuation."""
    return re.sub(r"(?<=\d)'(?![\w'])", " feet", re.sub(r"(?<=\d)!", " factorial", text))


def _expanded(text: str) -> str:
    """`text` without contractions. An acronym that looks like one stays: IM, WONT."""
    for pattern, long in _CONTRACTIONS:
        text = pattern.sub(partial(_expand, long=long), text)
    return text


def _expand(found: re.Match[str], *, long: str) -> str:
    short = found[0]
    is_acronym = len(short) > 1 and short.isupper() and "'" not in short
    return short if is_acronym else found.expand(long).lower()


def _language(pieces: list[str]) -> Language | None:
    words = {fold(piece) for piece in pieces}
    if any(piece in "¿¡" for piece in pieces):
        return SPANISH
    english, spanish = (len(words & language.marks) for language in (ENGLISH, SPANISH))
    spanish += 2 * (
        any(letter in "áéíóúñ" for piece in pieces for letter in piece.casefold()) and english < 3
    )
    if english == spanish:
        return None
    return ENGLISH if english > spanish else SPANISH


def _names(pieces: list[str]) -> frozenset[str]:
    """Words with a capital that does not come from the beginning of a sentence, folded."""
    words = [piece.removesuffix("'s").removesuffix("'") for piece in pieces if piece[0].isalpha()]
    with_capital = [word for word in words[1:] if word != "I" and word[0].isupper()]
    if is_title(pieces):
        return frozenset()
    return frozenset(without_accents(word.casefold()) for word in with_capital)


def _parts(piece: str, language: Language | None, *, is_formula: bool) -> list[str]:
    """The folded words of one piece."""
    if piece[0] in "\"`'" and len(piece) > 2:
        inner = piece[1:-1].strip()
        return [fold_accents(inner)] if inner.isalpha() else [f'"{inner}"']
    if piece in _NO_MEANING:
        return [piece] if is_formula and piece in "()[]" else []
    if _FLAG.match(piece):
        return [piece]
    if piece[0].isdigit() or (piece[0] == "-" and len(piece) > 1):
        return [plain_number(piece, language)]
    if re.search(r"[_@/\\:]|\w\.\w|\d", piece):
        return [piece]
    return _word_parts(piece)


_TENS = frozenset({"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"})


def _word_parts(piece: str) -> list[str]:
    if re.fullmatch(r"\w+'s?", piece):
        return [fold_accents(piece.partition("'")[0]), "'s"]
    first, *rest = piece.split("-")
    if rest and fold(first) in _PREFIXES:
        return [fold_accents(first) + "".join(fold_accents(part) for part in rest)]
    if rest and all(part.isalpha() for part in (first, *rest)) and fold(first) not in _TENS:
        # A man-eating shark is no man eating shark.
        return ["-".join(fold_accents(part) for part in (first, *rest))]
    return [fold_accents(roman(part)) for part in (first, *rest) if part]


def _with_asking_accents(pieces: list[str], language: Language) -> list[str]:
    """Spanish question words with their accents, where they stand at the beginning of the question."""
    if language is not SPANISH:
        return pieces
    start = pieces.index("¿") + 1 if "¿" in pieces else 0
    for at in (start, start + 1):
        if (
            at < len(pieces)
            and pieces[at] in PLAIN_ASKING
            and not (at > start and pieces[start] in PLAIN_ASKING)
        ):
            is_behind_preposition = at > start and pieces[start] in (
                "en",
                "a",
                "de",
                "con",
                "por",
                "para",
                "desde",
                "hasta",
            )
            if at == start or is_behind_preposition:
                pieces = [*pieces[:at], PLAIN_ASKING[pieces[at]], *pieces[at + 1 :]]
    return pieces


def _rewritten(pieces: list[str], language: Language) -> list[str]:
    """`pieces` with the phrases of the language in one form, and what stood before a comma at the end."""
    pieces = _of_possessives(_fronted_last(pieces, language), language)
    text = " ".join(piece.replace(" ", "\0") for piece in pieces if piece not in "¿¡")
    for pattern, instead in language.phrases:
        rounds = 0
        while rounds < REWRITES and pattern.search(text):
            text = " ".join(pattern.sub(instead, text).split())
            rounds += 1
    return [piece.replace("\0", " ") for piece in text.split()]


def _fronted_last(pieces: list[str], language: Language) -> list[str]:
    """In Python, how … → how … in Python."""
    if "," in pieces and pieces[0] in language.fronting:
        at = pieces.index(",")
        rest = [piece for piece in pieces[at + 1 :] if piece not in "¿¡"]
        if 1 < at <= 5 and len(rest) > 2:
            return [*rest, *pieces[:at]]
    return pieces


def _literally(pieces: list[str], language: Language, payload: str) -> Reading:
    """Every word as it is: the question is about wording."""
    words = tuple(Word(piece, "", piece) for piece in pieces if piece != ",")
    return Reading(language, words, (), (), frozenset(), payload)


def _in_order(pieces: list[str], language: Language) -> list[str]:
    return _pairs_sorted(join_number_words(pieces, language), language)


def _of_possessives(pieces: list[str], language: Language) -> list[str]:
    """France's capital → capital of France; only where the owner is one word that nothing else belongs to."""
    if pieces.count("'s") != 1 or "of" in pieces:
        return pieces
    at = pieces.index("'s")
    end = next(
        (
            i
            for i in range(at + 1, len(pieces))
            if pieces[i] in _ENDS_OF_A_NOUN or pieces[i] in language.helpers
        ),
        len(pieces),
    )
    if at == 0 or end == at + 1:
        return pieces
    start = at - 1
    if start > 0 and pieces[start - 1] in language.articles:
        start -= 1
    return [*pieces[:start], "the", *pieces[at + 1 : end], "of", *pieces[start:at], *pieces[end:]]


_ENDS_OF_A_NOUN = words(
    "in on at for with without from to into by before after during and or , that which who not than as if "
    "of de en con sin para por y o que a"
)


def _pairs_sorted(pieces: list[str], language: Language) -> list[str]:
    """The difference between A and B is that between B and A."""
    joint, head = ("y", "entre") if language is SPANISH else ("and", "between")
    if pieces[:2] not in (["difference", head], ["diferencia", head]) or pieces.count(joint) != 1:
        return pieces
    at = pieces.index(joint)
    pair = [pieces[2:at], pieces[at + 1 :]]
    pair.sort(key=lambda part: [piece for piece in part if piece not in language.articles])
    return [*pieces[:2], *pair[0], joint, *pair[1]]


def _compose(pieces: list[str], language: Language, names: frozenset[str], payload: str) -> Reading:
    words: list[Word] = []
    helpers, modals = [], []
    before = ""
    for piece in pieces:
        if piece in language.helpers:
            helpers.append(language.helpers[piece])
        elif piece in language.modals:
            modals.append(piece)
        elif piece == ",":
            pass
        elif piece in language.articles:
            before = piece
        else:
            words.append(_word(piece, before, language, names))
            # An article speaks of all that follows up to the noun: a black hole.
            before = "" if piece in _ENDS_OF_A_NOUN else before
            continue
        before = before if piece in language.articles else ""
    words = _verb_first(words, language)
    return Reading(language, tuple(words), tuple(helpers), tuple(modals), names, payload)


def _word(piece: str, before: str, language: Language, names: frozenset[str]) -> Word:
    plain = without_accents(piece)
    if piece[0] == '"' or not plain.isalpha():
        return Word(language.synonyms.get(piece, piece), "", piece, before)
    found = without_ending(language.synonyms.get(piece, piece), language)
    return Word(language.synonyms.get(found.base, found.base), found.ending, piece, before)


def _verb_first(words: list[Word], language: Language) -> list[Word]:
    """¿Cuándo llegó la peste …? and ¿cuándo la peste llegó …? in one order."""
    if not words or words[0].surface not in language.free_verb_after:
        return words
    at = next((i for i, word in enumerate(words) if word.ending in ("past", "future")), None)
    if at is None or at > 4:
        return words
    return [words[0], words[at], *words[1:at], *words[at + 1 :]]
