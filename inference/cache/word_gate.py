"""Whether two texts ask the same: the check of words beside the cosine of their vectors.

No cosine is safe: "when did it begin" and "where did it begin" have one of .99. This check refuses when in
doubt. What it lets through differs only in what is listed in `word_lists/`.
"""

from collections import Counter

from inference.cache.folding import clean, without_accents
from inference.cache.reading import Reading, Word, read
from inference.cache.word_lists.en import ENGLISH
from inference.cache.word_lists.es import SPANISH
from inference.cache.word_lists.shape import words

_ASKING = words(
    "which who whom whose when where why how howto nameof meaningof what qué cuál quién cómo cuándo dónde "
    "cuánto cuánta cuántos cuántas"
)
_NEGATIONS = words(
    "not no never without none nobody nothing neither nor nunca jamas sin ni nadie nada tampoco"
)
ENDS = 500
"""So many characters at either end of a long text are read for what people look up daily."""


def same_question(a: str, b: str) -> bool:
    """Whether an answer to `a` answers `b` as well."""
    return why_different(a, b) is None


def depends_on_the_moment(text: str) -> bool:
    """Whether the answer is true at one time only, so that none may be kept."""
    plain = _plain(text)
    return any(
        language.moment.search(plain) or any(language.lookup.search(end) for end in _ends(plain))
        for language in (ENGLISH, SPANISH)
    )


def _ends(text: str) -> list[str]:
    """Where a text asks: what people look up daily is asked for in a sentence, before or after a document."""
    return [text] if len(text) <= 2 * ENDS else [text[:ENDS], text[-ENDS:]]


def depends_on_the_person(text: str) -> bool:
    """Whether the answer is true for one person only, so that others, and other words, have another one."""
    plain = _plain(text)
    return any(language.personal.search(plain) for language in (ENGLISH, SPANISH))


def _plain(text: str) -> str:
    return without_accents(clean(text).casefold())


def why_different(a: str, b: str) -> str | None:
    """What keeps two texts apart, for a report; None where they ask the same."""
    one, other = read(a), read(b)
    if one is None or other is None:
        return None if clean(a) == clean(b) else "length"
    if one.language is not other.language:
        return "language"
    if one.payload != other.payload:
        return "text after the colon"
    return _different_words(one, other) or _different_forms(one, other)


def _different_words(one: Reading, other: Reading) -> str | None:
    left, right = Counter(one.bases), Counter(other.bases)
    if left == right:
        return None if one.bases == other.bases else "order"
    odd = {*(left - right), *(right - left)}
    if _in_small_letters(left) == _in_small_letters(right):
        return "capitals"
    if odd & _ASKING:
        return "question word"
    if any(any(c.isdigit() for c in word) for word in odd):
        return "number"
    if odd & _NEGATIONS:
        return "negation"
    return "words"


def _in_small_letters(bases: Counter[str]) -> Counter[str]:
    return Counter(base.casefold() for base in bases.elements())


def _different_forms(one: Reading, other: Reading) -> str | None:
    """Whether words of the same bases say something else by their forms."""
    if Counter(one.modals) != Counter(other.modals):
        return "modal"
    if (reason := _different_tense(one, other)) is not None:
        return reason
    names = one.names | other.names
    spare = abs(_count_do(one) - _count_do(other))
    pairs = list(zip(one.words, other.words, strict=True))
    has_generic = any(_is_generic(left, right, one) for left, right in pairs)
    for left, right in pairs:
        is_name = _is_name(left, right, names)
        if is_name and not _same_surface(left, right):
            return "name"
        if left.before != right.before and left.base.casefold() in names:
            return "article"  # The Doctor is somebody, and a doctor anybody.
        if left.ending == right.ending:
            if not is_name and _same_surface(left, right) and _articles_differ(left, right):
                return "article"
        elif _is_generic(left, right, one) or (has_generic and {left.ending, right.ending} == {"", "n"}):
            continue
        elif (spare := spare - 1) < 0:
            return "ending"
    return None


def _same_surface(left: Word, right: Word) -> bool:
    return without_accents(left.surface) == without_accents(right.surface)


_KINDS_OF_ARTICLES = {"un": "el", "una": "la"}


def _articles_differ(left: Word, right: Word) -> bool:
    """El capital is not la capital; that one is definite and the other is not makes no difference."""
    one, other = (_KINDS_OF_ARTICLES.get(word.before, word.before) for word in (left, right))
    spanish = {"el", "la", "los", "las"}
    return one in spanish and other in spanish and one != other


def _count_do(reading: Reading) -> int:
    return sum(helper in ("do", "did") for helper in reading.helpers)


def _different_tense(one: Reading, other: Reading) -> str | None:
    """The forms of be one by one; a past in "did" is the past of any verb."""
    be, other_be = (
        [helper for helper in reading.helpers if helper not in ("do", "did")] for reading in (one, other)
    )
    if be != other_be:
        return "tense or voice"
    return "tense" if _is_past(one) != _is_past(other) else None


def _is_past(reading: Reading) -> bool:
    return "did" in reading.helpers or any(word.ending == "past" for word in reading.words)


def _is_name(left: Word, right: Word, names: frozenset[str]) -> bool:
    return any(without_accents(word.surface.casefold()) in names for word in (left, right))


def _is_generic(left: Word, right: Word, reading: Reading) -> bool:
    """A file and files: any of them."""
    singular, plural = (left, right) if right.ending == "s" else (right, left)
    language = reading.language
    if language is None or singular.ending or plural.ending != "s":
        return False
    return singular.before in language.indefinite and (
        not plural.before or plural.before in language.generic_plural
    )
