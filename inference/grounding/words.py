"""The words of a text that say what it is about, as far as two texts can be compared by them. Pure."""

import re
import unicodedata
from collections.abc import Iterator

from inference.cache.word_lists.shape import words

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(
    r"""
    .+?
    (?: [.!?…]["'»”’)\]]*(?=\s) | [。！？]      # its mark, with the quotation marks behind it
      | \n\n | \n(?=\s*[-*•|\d])             # a paragraph, or the items of a list
      | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)"
)
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese; the index of words takes them by pairs too."""
_ENDING = re.compile(r"(?:mente|ciones|cion|ing|edly|ed|es|s|ly|os|as|o|a|e|er|ers)$")
"""The commonest endings of English and Spanish. What is left is compared by its first characters."""
_LEAST_STEM, _MOST_STEM = 3, 8
_MOST_SENTENCE = 600
"""Characters; a longer one is a table, or no sentence at all, and is parted."""

_EMPTY = words(
    """
    a about after all also an and any are as at be because been before being between both but by can
    could did do does during each few for from had has have he her him his how i if in into is it its
    just many may me more most much my name new no nor not of on one only or other our out over own said
    same she should so some such than that the their them then there these they this those through to
    too under until up very was way we were what when where which while who whom whose why will with
    would you your type kind used
    """
) | words(
    """
    al algo algun alguna algunas alguno algunos ante antes aquel aquella asi aun aunque bajo bien cada
    casi como con contra cosa cual cuales cuando cuanta cuantas cuanto cuantos de del desde donde dos
    durante e el ella ellas ellos en entre era eran es esa esas ese eso esos esta estaba estan estas
    este esto estos fue fueron ha haber habia habian han hasta hay la las le les lo los llama mas me mi
    mientras mucha muchas mucho muchos muy nada ni no nombre nos nosotros o os otra otras otro otros
    para pero poco por porque pues que quien quienes se sea segun ser si sido sin sobre son su sus tal
    tambien tan tanto te tenia tiene tienen tipo toda todas todo todos tras tu tuvo un una unas uno unos
    usted y ya yo
    """
)
"""Of English and of Spanish; words of other languages all count."""


def content_words(text: str) -> list[str]:
    """The words that carry what `text` is about, folded and without their endings, in their order."""
    written = (part for word in _WORD.findall(_plain(text)) for part in _parts(word))
    full = (word for word in written if word not in _EMPTY)
    return [_stem(word) for word in full if len(word) > 1 or word.isdigit()]


def share_found(wanted: list[str], text: str) -> float:
    """Which part of the words `wanted` stands in `text`; 0 where none is wanted."""
    wanted_once = set(wanted)
    if not wanted_once:
        return 0.0
    return len(wanted_once & set(content_words(text))) / len(wanted_once)


def sentences(text: str) -> list[str]:
    """The sentences of `text`, each a part of it as it stands there, without the space around it."""
    parts = (
        part[begin : begin + _MOST_SENTENCE]
        for part in _SENTENCE.findall(text)
        for begin in range(0, len(part), _MOST_SENTENCE)
    )
    return [sentence for part in parts if (sentence := part.strip())]


def _parts(word: str) -> Iterator[str]:
    """The word, or of what is written without spaces between words each pair of characters."""
    for part in _UNSPACED.split(word):
        if not _UNSPACED.match(part):
            yield from filter(None, (part,))
        else:
            yield from (part[at : at + 2] for at in range(max(1, len(part) - 1)))


def _plain(text: str) -> str:
    """Lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _stem(word: str) -> str:
    if word.isdigit():
        return word
    stem = _ENDING.sub("", word)
    return (stem if len(stem) >= _LEAST_STEM else word)[:_MOST_STEM]
