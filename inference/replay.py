"""The events of an answer told again from its row: the same ones, with the same numbers."""

from collections.abc import Iterator
from itertools import accumulate, pairwise

from inference.events import Delta, Event, Failed, Numbered, Sources, Started, ToolCallPiece
from inference.grounding.rows import grounds_of
from inference.models import Generation
from inference.record import finished_event


def replay(generation: Generation) -> list[Numbered]:
    """The events so far of a generation that was read `to_tell` them."""
    return [Numbered(str(generation.pk), seq, event) for seq, event in enumerate(_events(generation))]


def _events(generation: Generation) -> Iterator[Event]:
    message = generation.message
    if (
        generation.delta_lengths
        or generation.tool_calls
        or (not generation.is_running and not generation.error_code)
    ):
        yield started_event(generation)
        if grounds := grounds_of(generation):
            yield Sources.of(grounds)
    bounds = accumulate(generation.delta_lengths, initial=0)
    for begin, end in pairwise(bounds):
        yield Delta(message.content[begin:end])
    for index, call in enumerate(generation.tool_calls):
        yield ToolCallPiece(index, call["id"], call["name"], call["arguments"])
    if generation.is_running:
        return
    if generation.error_code:
        yield Failed(generation.error_code, generation.error_message, generation.request_id or None)
    else:
        yield finished_event(generation)


def started_event(generation: Generation) -> Started:
    """The event of an answer's beginning, from its row and its message's."""
    return Started(
        generation=str(generation.pk),
        conversation=str(generation.message.conversation_id),
        message=str(generation.message_id),
        model=generation.model_alias,
        provider=generation.provider,
        requested_model=generation.requested_model,
        fallbacks=len(generation.attempts),
        cache=generation.cache or None,
    )
