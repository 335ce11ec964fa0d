"""What happens to an answer, as every door tells it: SSE and WebSocket carry the same JSON.

Exactly one `Started` opens an answer whose first piece is in hand, and exactly one `Finished` or
`Failed` ends it. The texts of the `Delta`s joined are the text that is stored.
"""

import json
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from inference.grounding.grounds import Grounds
from llmsite.core.errors import describe


@dataclass(frozen=True, slots=True)
class Started:
    """The first piece has come. `model` is the one that answers, in place of `requested_model` if given.

    `cache` is the level that the answer comes from; `fallbacks` counts the models that failed before.
    `similarity` is that to the question which the answer was kept for, where its words were other ones; it is
    not stored, so only a header tells it.
    """

    type: ClassVar[str] = "started"
    generation: str
    conversation: str
    message: str
    model: str
    provider: str
    requested_model: str = ""
    fallbacks: int = 0
    cache: str | None = None
    similarity: float | None = None


@dataclass(slots=True, unsafe_hash=True)
class Delta:
    """The next piece of the text, never empty."""

    type: ClassVar[str] = "delta"
    text: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What an answer from documents stands on; comes right after `Started`, for no other answer.

    `sources` are the passages that were given, as `Grounds.told_sources` has them. `answered` is whether the
    documents say anything about the question, `extract` whether the answer is sentences of theirs.
    """

    type: ClassVar[str] = "sources"
    answered: bool
    extract: bool
    confidence: float
    sources: list[dict[str, Any]]

    @classmethod
    def of(cls, grounds: Grounds) -> "Sources":
        return cls(grounds.answered, grounds.extract, grounds.confidence, grounds.told_sources())


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """The next piece of a call of the caller's function; id and name come with the first of its `index`.

    Only questions with tools, which the doors below `/v1` take, are answered with it.
    """

    type: ClassVar[str] = "tool_call"
    index: int
    call: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete, or was stopped (`finish_reason` cancelled). Times are in milliseconds.

    `stop_sequence` is the stop string that ended it, where the provider said which. It is not stored, so the
    events that are told again do not have it; only the doors that speak a vendor's API tell it.
    """

    type: ClassVar[str] = "finished"
    finish_reason: str
    usage: dict[str, int | None]
    cost: str
    latency_ms: int | None
    time_to_first_token_ms: int | None
    cache: str | None = None
    context_trimmed: bool = False
    dropped_parameters: list[str] = field(default_factory=list)
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer ended with an error; the pieces before it are kept."""

    type: ClassVar[str] = "error"
    code: str
    message: str
    request_id: str | None

    @classmethod
    def of(cls, error: BaseException, request_id: str | None) -> "Failed":
        public = describe(error)
        return cls(public.code, public.message, request_id)


Event = Started | Sources | Delta | ToolCallPiece | Finished | Failed


_LAST = (Finished, Failed)


def is_last(event: Event) -> bool:
    return isinstance(event, _LAST)


@dataclass(slots=True, unsafe_hash=True)
class Numbered:
    """An event with its place in its answer, counted from 0. Never changed, as all of these.

    There is one for each token, and a frozen one takes three times as long to make.
    """

    generation: str
    seq: int
    event: Event

    def as_dict(self) -> dict[str, Any]:
        event = self.event
        values = {name: getattr(event, name) for name in _FIELDS[type(event)]}
        return {"type": event.type, "id": self.generation, "seq": self.seq, **values}

    def as_json(self) -> str:
        """One line, because JSON escapes the line breaks of a text."""
        if isinstance(self.event, Delta):  # By far the most; put together by hand it takes half the time.
            text = _quote(self.event.text)
            return f'{{"type": "delta", "id": "{self.generation}", "seq": {self.seq}, "text": {text}}}'
        return _encode(self.as_dict())


_encode = json.JSONEncoder(ensure_ascii=False).encode
_quote = json.encoder.encode_basestring
_KINDS: dict[str, type[Event]] = {
    kind.type: kind for kind in (Started, Sources, Delta, ToolCallPiece, Finished, Failed)
}
_UNTOLD = frozenset({"stop_sequence", "similarity"})
# Events are flat, and there is one for each token: `dataclasses.asdict` would take several times as long.
_FIELDS = {
    kind: tuple(one.name for one in fields(kind) if one.name not in _UNTOLD) for kind in _KINDS.values()
}


def from_dict(data: dict[str, Any]) -> Numbered:
    """The inverse of `Numbered.as_dict`."""
    values = dict(data)
    kind, generation, seq = _KINDS[values.pop("type")], values.pop("id"), values.pop("seq")
    return Numbered(generation, seq, kind(**values))
