"""Messages, and what turns them into the tokens of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class ChatTokenizer(Protocol):
    """The text side of a model. The text of a message never becomes a special token."""

    end_tokens: frozenset[int]
    """The tokens that end an answer."""

    def prompt(self, messages: Sequence[Message]) -> list[list[int]]:
        """The prompt that asks for an answer to `messages`, as the tokens of each message.

        Joined they are the whole prompt: what the chat template puts around the messages counts
        with the one that it belongs to, its last words, which ask for the answer, with the last.
        Raises ValueError where the model's template refuses the messages.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out; incomplete characters become U+FFFD."""
        ...
