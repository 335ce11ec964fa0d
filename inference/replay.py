"""The events of an answer told again from its row: the same ones, with the same numbers."""

from collections.abc import Iterator
from itertools import accumulate, pairwise

from inference.events import Delta, Event, Failed, Numbered, Started
from inference.models import Generation
from inference.record import finished_event


def replay(generation: Generation) -> list[Numbered]:
    """The events so far of a generation that was read together with its message."""
    return [Numbered(str(generation.pk), seq, event) for seq, event in enumerate(_events(generation))]


def _events(generation: Generation) -> Iterator[Event]:
    message = generation.message
    if generation.delta_lengths or (not generation.is_running and not generation.error_code):
        yield Started(str(message.conversation_id), str(message.pk), generation.model_alias)
    bounds = accumulate(generation.delta_lengths, initial=0)
    for begin, end in pairwise(bounds):
        yield Delta(message.content[begin:end])
    if generation.is_running:
        return
    if generation.error_code:
        yield Failed(generation.error_code, generation.error_message, generation.request_id or None)
    else:
        yield finished_event(generation)
