"""Text as words that can be compared: one case, few accents, no marks that only decorate."""

import re
import unicodedata

from inference.cache.word_lists.shape import words

_QUOTES = str.maketrans(
    {"’": "'", "‘": "'", "´": "'", "`": "`", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'}
)
_MARKS = _QUOTES | str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_RAISED = re.compile(
    "(["
    + "".join(
        re.escape(chr(code))
        for code in range(0x80, 0x20000)
        if unicodedata.decomposition(chr(code)).startswith(("<super>", "<sub>", "<fraction>"))
        and chr(code) not in "ªº"
    )
    + "]+)"
)
"""Powers, indices and fractions, which the compatible form would run into the number beside them."""
_ASKING = words("qué cuál cuáles quién quiénes cómo cuándo dónde adónde cuánto cuánta cuántos cuántas")
_KEPT_ACCENT = re.compile(r"[áéíóú](?:n|s)?$")
"""What tells habló from hablo, está from esta and hablarán from hablaran."""
_PLAIN_ENDING = re.compile(r"(?:[óéíú]n|[éíóú]s|más|demás|jamás|además|detrás|atrás|quizás?|sí|mí|tú|él)$")
"""Endings where leaving the accent out is a slip, not another word."""
PLAIN_ASKING = {
    plain: word
    for word in _ASKING
    for plain in ["".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))]
}
"""Question words as people type them who leave accents out."""


def clean(text: str) -> str:
    """`text` with one kind of space, quote, dash and composed letters."""
    return re.sub(r"\s+", " ", composed(text).translate(_MARKS)).strip()


def composed(text: str) -> str:
    """`text` in Unicode's compatible form (NFKC). But 3² does not become 32, nor 1½ 11/2."""
    if text.isascii():
        return text
    parts = _RAISED.split(text)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)


def fold(word: str) -> str:
    """`word` in lower case, with the accents that tell words apart only."""
    return fold_accents(word.casefold())


def fold_accents(word: str) -> str:
    """`word` with the accents that tell words apart only."""
    if word.isascii() or word in _ASKING:
        return word
    if _KEPT_ACCENT.search(word) and not _PLAIN_ENDING.search(word):
        at = max(index for index, letter in enumerate(word) if letter in "áéíóú")
        return without_accents(word[:at]) + word[at:]
    return without_accents(word)


def without_accents(text: str) -> str:
    """`text` without accents; ñ is a letter of its own."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFD", text.replace("ñ", "\0").replace("Ñ", "\1"))
    plain = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return plain.replace("\0", "ñ").replace("\1", "Ñ")
