"""A question as the pipeline takes it: typed values that a door has checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from accounts.models import ApiKey, User
from inference.providers.base import ChatMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What the caller wants of the answer; None leaves it to the model's row and the provider."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    def given(self) -> dict[str, Any]:
        """The values that were asked for, by name, but for `max_tokens`."""
        values = {name: getattr(self, name) for name in _NUMBERS}
        values["stop"] = list(self.stop) or None
        return {name: value for name, value in values.items() if value is not None}


_NUMBERS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an answer has to be: calls of the caller's functions, or text of a form. All in OpenAI's form."""

    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None

    def given(self) -> dict[str, Any]:
        """The values that were asked for, by name."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in (None, ())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """What makes a repeated request the same one: SHA-256 digests, in hexadecimal, of its key and body."""

    key_digest: str
    body_digest: str


Detail = Literal["brief", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """The documents that are to answer: those of `collection`, or all of the person and their teams.

    `language` is that of the question, where the caller says it (ISO 639-1).
    """

    collection: UUID | None = None
    detail: Detail = "full"
    language: str = ""


class NewestLeaf:
    """Stands for "below whatever was written last" where a parent could be named."""


NEWEST_LEAF = NewestLeaf()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to one model.

    Without `conversation` a new one is made; `listed` says whether it appears beside the chat.
    `regenerate` names an answer that gets a sibling; `prompt` is then unused. `history` are turns that
    a program sends along itself, before `prompt`, instead of naming a conversation; an empty `prompt` then
    means that the last of them (a tool's answer, say) is to be answered. `api_key` is the key that a program
    asked with; the question counts in its budget too. Without `use_cache` the answer is a fresh one, without
    `may_be_kept` the cache does not get it, and
    `choice` tells questions apart that are asked several times on purpose. `idempotency` is the key of a
    request that may come again (inference.idempotency). With `grounding` it is answered from documents
    (inference.grounding). `labels` are kept with the answer for those who look at it later, and change
    nothing.
    """

    user: User
    api_key: ApiKey | None = None
    door: str
    prompt: str = ""
    model: str | None = None
    provider: str | None = None
    system: str | None = None
    history: tuple[ChatMessage, ...] = ()
    conversation: UUID | None = None
    parent: UUID | NewestLeaf | None = NEWEST_LEAF
    regenerate: UUID | None = None
    sampling: Sampling = field(default_factory=Sampling)
    shape: Shape = field(default_factory=Shape)
    use_cache: bool = True
    may_be_kept: bool = True
    choice: int = 0
    idempotency: Idempotency | None = None
    grounding: Grounding | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    listed: bool = True
    request_id: str = ""
