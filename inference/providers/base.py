"""What the pipeline asks of a provider, and what a provider gives back.

A provider is plain Python: it knows no ORM and no HTTP door of ours. Its contract is one method that gives
each piece on with a plain call (docs/decisions/0014); collecting them is the non-streamed call.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]

SAMPLING_PARAMETERS = frozenset(
    {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty"}
)
"""What a caller may ask for beside `max_tokens`; a provider declares which of them it takes, the others
are dropped and named in the answer."""
TOOL_PARAMETERS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
"""They change what an answer is, so a model that does not take them refuses the question; and so does
one that does not take `response_format`."""
ALL_PARAMETERS = SAMPLING_PARAMETERS | TOOL_PARAMETERS | {"response_format"}


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of the prompt."""

    role: Role
    content: str
    tool_calls: tuple["ToolCall", ...] = ()
    """What an assistant's turn asked for."""
    tool_call_id: str = ""
    """Which call the content of a tool's turn answers."""
    is_error: bool = False
    """Whether the tool has failed, and the content of its turn says why."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function of the caller's; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call upstream. `None` (or an empty `stop`) leaves the choice to the provider."""

    model: str
    """The provider's own name of the model."""
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[dict[str, Any], ...] = ()
    """In OpenAI's form: `{"type": "function", "function": {"name", "description", "parameters"}}`."""
    tool_choice: str | dict[str, Any] | None = None
    """In OpenAI's form: none, auto, required, or one function."""
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    """In OpenAI's form."""
    request_id: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class TextDelta:
    """The next piece of the answer, never empty. Never changed, but freezing would cost thrice the time.

    `prompt_tokens` is the provider's count, where it tells it this early: an answer that breaks off has
    no other.
    """

    text: str
    prompt_tokens: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of the call with this `index`; id and name come with its first piece."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer, exactly once and last. `usage` is None where the provider sent none.

    `stop_sequence` is the stop string that ended it, where the provider says which.
    """

    finish_reason: FinishReason
    usage: Usage | None
    stop_sequence: str = ""


ProviderEvent = TextDelta | ToolCallDelta | Finished

Take = Callable[[ProviderEvent], object]
"""Is given the next event of an answer. It neither waits nor raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines in seconds: to connect, to the first piece, between two pieces, and for the whole."""

    connect: float = 3.0
    first_token: float = 30.0
    idle: float = 20.0
    total: float = 300.0


BYTES_PER_TOKEN = 3
"""Byte-level tokenizers make fewer tokens of nearly every text."""


def estimate_tokens(messages: Sequence[ChatMessage]) -> list[int]:
    """A high estimate for byte-level tokenizers: a token for three bytes of UTF-8, four for the role."""
    return [len(all_text(message).encode()) // BYTES_PER_TOKEN + 4 for message in messages]


def all_text(message: ChatMessage) -> str:
    """Everything of a turn that takes tokens: its text, and what belongs to calls of tools."""
    calls = (f"{call.id}{call.name}{call.arguments}" for call in message.tool_calls)
    return "".join((message.content, message.tool_call_id, *calls))


class ChatProvider(ABC):
    """A source of answers. Instances are shared by all requests of a process."""

    name: str
    parameters: frozenset[str] = SAMPLING_PARAMETERS
    """The sampling parameters it takes; the pipeline drops the others and names them in the answer."""
    is_greedy: bool = False
    """Whether it gives the same answer to the same prompt as long as no temperature is asked for."""

    @abstractmethod
    async def stream(self, request: ChatRequest, take: Take) -> None:
        """Give `take` the answer's pieces as they come and, last, one `Finished`.

        Cancelling it closes the connection upstream at once. `take` may be called from outside of the task.
        Raises a `ProviderFailure` of `llmsite.core.errors`, never an exception of an SDK.
        """

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        """How many tokens each message takes in the prompt, its share of the chat template included.

        A provider that can count exactly overrides this estimate.
        """
        return estimate_tokens(messages)

    async def aclose(self) -> None:  # noqa: B027 - most providers have nothing to release
        """Release connections; the provider is not used afterwards."""
