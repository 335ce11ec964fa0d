"""How many passages fit into a model's window, beside the question and its answer."""

from collections.abc import Sequence
from dataclasses import replace

from inference.context import ANSWER_SHARE, REPLY_TOKENS, most_tokens
from inference.grounding.grounds import Source
from inference.grounding.prompt import question_at, quotation, with_passages
from inference.grounding.words import content_words, sentences, share_found
from inference.providers.base import ChatMessage, estimate_tokens
from inference.question import Question
from llmsite.core.errors import ContextLengthExceeded, ProviderFailure

PASSAGE_SHARE = 4
"""Passages take a quarter of a window at most: a small model is led astray by more of them."""
LEAST_TOKENS = 40
"""A passage of which less would be left is not worth its place."""


async def that_fit(question: Question, sources: Sequence[Source]) -> tuple[Source, ...]:
    """The first of `sources` for which there is room; of the very first, if need be, its best part.

    The question and the system prompt keep their room, and the answer up to a quarter of the window; older
    turns make way. The passages take another quarter at most. Raises ContextLengthExceeded where there is
    room for none.
    """
    assert question.ask.grounding is not None
    window = question.model.context_window
    answer = min(question.request.max_tokens, max(window // ANSWER_SHARE, 1))
    room = window - answer - REPLY_TOKENS
    turns = _without_older(question.request.messages)
    if most_tokens(with_passages(turns, sources, question.ask.grounding.detail)) <= window // PASSAGE_SHARE:
        return tuple(sources)
    frame = with_passages(turns, (), question.ask.grounding.detail)
    blocks = [ChatMessage("user", quotation(number, source)) for number, source in enumerate(sources, 1)]
    counts = await _count(question, [*frame, *blocks])
    left = min(room - sum(counts[: len(frame)]), max(window // PASSAGE_SHARE, LEAST_TOKENS))
    if fitting := _first(sources, counts[len(frame) :], left):
        return fitting
    if left < LEAST_TOKENS:
        raise ContextLengthExceeded(tokens=window - left + LEAST_TOKENS, limit=window)
    length = len(sources[0].text) * left * 4 // (counts[len(frame)] * 5)  # with some tokens to spare
    return (_best_part(sources[0], length, turns[question_at(turns)].content),)


def _without_older(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The turns that stay however little room there is."""
    at = question_at(turns)
    return [*(turn for turn in turns[:at] if turn.role == "system"), *turns[at:]]


async def _count(question: Question, messages: Sequence[ChatMessage]) -> list[int]:
    try:
        return await question.provider.count_tokens(question.model.upstream_model, messages)
    except ProviderFailure:
        # Its server is away, so that another model may have to answer; that is found out when it is asked.
        return estimate_tokens(messages)


def _first(sources: Sequence[Source], counts: Sequence[int], left: int) -> tuple[Source, ...]:
    """As many as `left` tokens hold."""
    kept = []
    for source, count in zip(sources, counts, strict=True):
        left -= count
        if left < 0:
            break
        kept.append(source)
    return tuple(kept)


def _best_part(source: Source, length: int, asked: str) -> Source:
    """At most `length` characters of a passage: from where they have most of the words of `asked`."""
    text, wanted = source.text, content_words(asked)
    begin = max(_begins(text), key=lambda at: share_found(wanted, text[at : at + length]))
    part = text[begin : begin + length]
    if begin + length < len(text):
        part = part.rsplit(" ", 1)[0]
    start = source.start + begin
    return replace(source, text=part, start=start, end=start + len(part))


def _begins(text: str) -> list[int]:
    """Where the sentences of `text` begin."""
    begins, end = [0], 0
    for sentence in sentences(text):
        begins.append(text.index(sentence, end))
        end = begins[-1] + len(sentence)
    return begins
