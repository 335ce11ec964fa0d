"""A question as the pipeline takes it: typed values that a door has checked."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from accounts.models import ApiKey, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What the caller wants of the answer; None leaves it to the model's row and the provider."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def given(self) -> dict[str, Any]:
        """The values that were asked for, by name."""
        values = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_p", "seed")}
        values["stop"] = list(self.stop) or None
        return {name: value for name, value in values.items() if value is not None}


class NewestLeaf:
    """Stands for "below whatever was written last" where a parent could be named."""


NEWEST_LEAF = NewestLeaf()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to one model.

    Without `conversation` a new one is made; `listed` says whether it appears beside the chat.
    `regenerate` names an answer that gets a sibling; `prompt` is then unused. `api_key` is the key
    that a program asked with; the question counts in its budget too.
    """

    user: User
    api_key: ApiKey | None = None
    door: str
    prompt: str = ""
    model: str | None = None
    provider: str | None = None
    system: str | None = None
    conversation: UUID | None = None
    parent: UUID | NewestLeaf | None = NEWEST_LEAF
    regenerate: UUID | None = None
    sampling: Sampling = field(default_factory=Sampling)
    listed: bool = True
    request_id: str = ""
