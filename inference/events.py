"""What happens to an answer, as every door tells it: SSE and WebSocket carry the same JSON.

Exactly one `Started` opens an answer whose first piece is in hand, and exactly one `Finished` or
`Failed` ends it. The texts of the `Delta`s joined are the text that is stored.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from llmsite.core.errors import describe


@dataclass(frozen=True, slots=True)
class Started:
    """The first piece has come."""

    type: ClassVar[str] = "started"
    conversation: str
    message: str
    model: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the text, never empty."""

    type: ClassVar[str] = "delta"
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete, or was stopped (`finish_reason` cancelled). Times are in milliseconds."""

    type: ClassVar[str] = "finished"
    finish_reason: str
    usage: dict[str, int | None]
    cost: str
    latency_ms: int | None
    time_to_first_token_ms: int | None
    cache: str | None = None
    context_trimmed: bool = False
    dropped_parameters: list[str] = field(default_factory=list)


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


Event = Started | Delta | Finished | Failed


def is_last(event: Event) -> bool:
    return isinstance(event, Finished | Failed)


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its place in its answer, counted from 0."""

    generation: str
    seq: int
    event: Event

    def as_dict(self) -> dict[str, Any]:
        return {"type": self.event.type, "id": self.generation, "seq": self.seq, **asdict(self.event)}


_KINDS: dict[str, type[Event]] = {kind.type: kind for kind in (Started, Delta, Finished, Failed)}


def from_dict(data: dict[str, Any]) -> Numbered:
    """The inverse of `Numbered.as_dict`."""
    values = dict(data)
    kind, generation, seq = _KINDS[values.pop("type")], values.pop("id"), values.pop("seq")
    return Numbered(generation, seq, kind(**values))
