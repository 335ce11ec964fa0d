"""Which turns of a conversation fit into a model's window. Pure: it only counts and chooses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.providers.base import BYTES_PER_TOKEN, ChatMessage, ChatRequest, all_text, estimate_tokens
from llmsite.core.errors import ContextLengthExceeded

REPLY_TOKENS = 8
"""What a chat template adds at the end of a prompt to open the answer, with room to spare."""

ANSWER_SHARE = 4
"""Older turns never take the last quarter of the window from the answer."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages to send, whether older turns were left out, and the room for the answer."""

    messages: tuple[ChatMessage, ...]
    trimmed: bool
    max_tokens: int


def most_tokens(messages: Sequence[ChatMessage]) -> int:
    """More tokens than any tokenizer makes of a prompt: a token is at least one byte of UTF-8."""
    return sum(len(all_text(message).encode()) + 16 for message in messages) + REPLY_TOKENS


def shape_tokens(shape: Mapping[str, Any]) -> int:
    """More tokens than any tokenizer makes of tools and the form of an answer, which go upstream as JSON."""
    return len(json.dumps(shape).encode()) if shape else 0


def most_prompt_tokens(request: ChatRequest) -> int:
    """More tokens than a provider can count in the prompt of `request`."""
    return most_tokens(request.messages) + shape_tokens(_shape(request))


def estimated_prompt_tokens(request: ChatRequest) -> int:
    """A high estimate of them, for a call of which nobody will tell."""
    return sum(estimate_tokens(request.messages)) + shape_tokens(_shape(request)) // BYTES_PER_TOKEN


def _shape(request: ChatRequest) -> dict[str, Any]:
    given = {"tools": request.tools, "response_format": request.response_format}
    return {name: value for name, value in given.items() if value}


def surely_fits(messages: Sequence[ChatMessage], *, window: int, max_tokens: int) -> bool:
    """True where no tokenizer has to be asked."""
    return most_tokens(messages) + max_tokens <= window


def fit(messages: Sequence[ChatMessage], counts: Sequence[int], *, window: int, max_tokens: int) -> Fitted:
    """Leave out the oldest turns, whole, until prompt and answer fit into `window` tokens.

    The system prompt and the last question stay, with what was called for it since. Up to a quarter of the
    window is kept for the answer, which gets up to `max_tokens` of what the turns leave. Raises
    ContextLengthExceeded where nothing remains.
    """
    head = 1 if messages and messages[0].role == "system" else 0
    last = _last_question(messages, head=head)
    fixed = sum(counts[:head]) + sum(counts[last:]) + REPLY_TOKENS
    if fixed >= window:
        raise ContextLengthExceeded(tokens=fixed, limit=window)
    kept_for_answer = min(max_tokens, max(window // ANSWER_SHARE, 1))
    budget = window - fixed - kept_for_answer
    first = _first_that_fits(messages, counts, head=head, last=last, budget=budget)
    kept = (*messages[:head], *messages[first:])
    room = window - fixed - sum(counts[first:last])
    return Fitted(kept, trimmed=first > head, max_tokens=min(max_tokens, room))


def _last_question(messages: Sequence[ChatMessage], *, head: int) -> int:
    """Where the last question stands. Behind it are only calls of tools and their answers."""
    places = [index for index in range(head, len(messages)) if messages[index].role == "user"]
    return places[-1] if places else min(head, len(messages) - 1)


def _first_that_fits(
    messages: Sequence[ChatMessage], counts: Sequence[int], *, head: int, last: int, budget: int
) -> int:
    """The index of the oldest kept message: always a question, so that turns stay whole."""
    first = last
    total = 0
    for index in range(last - 1, head - 1, -1):
        total += counts[index]
        if total > budget:
            break
        if messages[index].role == "user":
            first = index
    return first
