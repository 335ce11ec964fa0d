"""The ChatML tokenizer of the packaged model.

It is built without a single special token: `<|im_end|>` in a message is a row of ordinary tokens,
and the real one is put in by its number. Format: https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inference.engine.chat import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


class ChatMLTokenizer:
    """Turns messages into ChatML: start, role, line break, content, end, line break.

    Where a conversation has no system message, none is made up: with the one that the model's own
    template would put in, it answers simple questions worse (docs/decisions/0001-local-engine.md).
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._start, self._end, end_of_text = (self._number(name) for name in (START, END, END_OF_TEXT))
        self.end_tokens = frozenset({self._end, end_of_text})
        self._special = frozenset({self._start, self._end, end_of_text})

    @classmethod
    def from_file(cls, path: Path) -> "ChatMLTokenizer":
        """Read a tokenizer.json of the Hugging Face library."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(path)))

    def prompt(self, messages: Sequence[Message]) -> list[list[int]]:
        """See ChatTokenizer."""
        parts = [list(self._turn(message)) for message in messages]
        parts[-1] += [self._start, *self.encode("assistant\n")]
        return parts

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode([token for token in tokens if token not in self._special]))

    def _number(self, name: str) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise ValueError(f"the tokenizer has no token {name}")
        return int(number)

    def _turn(self, message: Message) -> Iterator[int]:
        yield self._start
        yield from self.encode(f"{message.role}\n{message.content}")
        yield self._end
        yield from self.encode("\n")


def byte_level_bpe(tokens: Sequence[str], merges: Sequence[str]) -> "Tokenizer":
    """A byte-level BPE tokenizer that splits numbers into digits, as SmolLM's was trained.

    `tokens` is the vocabulary in order, `merges` has the two halves of each pair with a space
    between. No token is registered as special, so none can come out of text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
