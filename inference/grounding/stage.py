"""The stage of the pipeline that looks into documents: what is found there, and who answers from it."""

from dataclasses import dataclass, replace

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from embeddings.search import Passage, search
from embeddings.weights import display_name
from inference.grounding.confidence import ANSWERED_FROM, are_about, asks_about_all, confidence
from inference.grounding.extract import MOST_SENTENCES, extract
from inference.grounding.grounds import Grounds, Kind, Source
from inference.grounding.languages import primary, question_language, speaks
from inference.grounding.prompt import question_at
from inference.grounding.room import that_fit
from inference.grounding.shelf import Shelf
from inference.question import Question, put_to
from llmsite.core.errors import InvalidInput, SearchIncomplete

PASSAGES = 5
"""How many are looked for."""
MOST_CHARACTERS = 2000
"""Of a question, that are looked for; the rest of a longer one goes to the model alone."""


async def grounded(question: Question) -> Question:
    """The question with what the documents on its shelf have; one without a shelf as it is.

    Raises InvalidInput where nothing is asked, EmbedderUnavailable, SearchIncomplete where nothing is found
    while documents are still being taken in, and what `put_to` raises.
    """
    ask, shelf = question.ask, question.shelf
    if shelf is None or ask.grounding is None:
        return question
    asked = _questions(question)
    finding = await _find(shelf, asked)
    language = primary(ask.grounding.language) or await question_language(asked[-1])
    sources, sureness = tuple(map(_source, finding.passages)), finding.confidence
    if not finding.is_answer:
        if not finding.is_complete:
            raise SearchIncomplete
        return _written(question, "nothing", sureness, (), [_nothing_found(language)])
    if not speaks(question.model.languages, language):
        pieces = extract(asked[-1], sources, most=MOST_SENTENCES[ask.grounding.detail])
        return _written(question, "extract", sureness, sources, pieces)
    if not finding.may_be_kept:
        question = replace(question, lookup=None)
    return await _with_passages(question, Grounds(kind="passages", confidence=sureness, sources=sources))


async def _with_passages(question: Question, grounds: Grounds) -> Question:
    """The question as its model is asked with as many of the passages as fit."""
    grounds = replace(grounds, sources=await that_fit(question, grounds.sources))
    asked = await put_to(question.model, question.ask, question.place, grounds)
    asked.shelf, asked.fallbacks, asked.began = question.shelf, question.fallbacks, question.began
    asked.lookup = question.lookup and replace(question.lookup, grounds=grounds)
    return asked


def _written(
    question: Question, kind: Kind, sureness: float, sources: tuple[Source, ...], pieces: list[str]
) -> Question:
    """The question with an answer that no model has to make; it is found again as soon as it was made."""
    grounds = Grounds(kind=kind, confidence=sureness, sources=sources)
    return replace(question, grounds=grounds, written=pieces, lookup=None)


def _questions(question: Question) -> list[str]:
    """The question, as it is looked for, behind the one that was asked before it."""
    turns = question.request.messages
    try:
        at = question_at(turns)
    except ValueError:
        raise InvalidInput(field="collection", reason=_("There is no question to look for.")) from None
    before = [turn.content for turn in turns[:at] if turn.role == "user"][-1:]
    return [text[:MOST_CHARACTERS] for text in (*before, turns[at].content)]


@dataclass(frozen=True, slots=True)
class _Finding:
    """The passages that were found, and how likely they answer the question."""

    passages: list[Passage]
    confidence: float
    is_about_all: bool = False
    """Whether any passage will do, as for "Summarize this document"."""
    is_complete: bool = True
    may_be_kept: bool = True
    """False where a better answer is to be had in a moment, of documents that are still being taken in."""

    @property
    def is_answer(self) -> bool:
        return self.is_about_all or self.confidence >= ANSWERED_FROM


async def _find(shelf: Shelf, asked: list[str]) -> _Finding:
    """What is found for the last question.

    "And when was that?" says little without the question before: where it finds nothing, both are looked for.
    But what is found then has to say something about the last one, and not about the one before alone.
    """
    finding = await _search(shelf, asked[-1])
    if finding.is_answer or len(asked) == 1:
        return finding
    joined = await _search(shelf, "\n".join(asked))
    if joined.is_answer and are_about(joined.passages, asked[-1]):
        return joined
    return finding


async def _search(shelf: Shelf, words: str) -> _Finding:
    if not shelf.ids:
        return _Finding([], 0.0)
    found = await search(shelf.reader, words, collections=shelf.ids, top_k=PASSAGES)
    passages = list(found.passages)
    return _Finding(
        passages,
        confidence(words, passages, encoder=display_name(settings.EMBEDDING_MODEL)),
        is_about_all=bool(passages) and asks_about_all(words),
        is_complete=found.is_complete,
        may_be_kept=found.is_complete and found.mode == "hybrid",
    )


def _source(passage: Passage) -> Source:
    return Source(
        document=str(passage.document),
        version=str(passage.version),
        collection=str(passage.collection),
        title=passage.title,
        page=passage.page,
        start=passage.start,
        end=passage.end,
        text=passage.text,
        score=round(float(passage.score), 4),
    )


def _nothing_found(language: str) -> str:
    """In the language of the question, where the site has it, else in that of its reader."""
    spoken = language if language in dict(settings.LANGUAGES) else translation.get_language()
    with translation.override(spoken):
        return _("The documents do not say anything about this.")
