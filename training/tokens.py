"""How long rows are: in tokens of the local model where its tokenizer is at hand, else in characters.

The child that reads files counts too, so nothing here needs Django before `tokenizer_file` is called.
"""

from collections.abc import Callable
from pathlib import Path

from training.rows import Row, prompt_of, texts_of

Counter = Callable[[str], int]

EXACT_CHARACTERS = 10_000_000
"""So many are counted one by one; of what is behind them the length is told from the share so far."""
TOKENS_OF_A_TURN = 5
"""What a chat template puts around a turn: a mark and a role before it, a mark behind it, line ends."""


def tokenizer_file() -> Path | None:
    """The tokenizer of the local model as one file; None where there is none of that form on this machine."""
    from django.conf import settings

    from inference.engine.prepare import PACKAGED_MODEL, TOKENIZER

    folder = settings.LOCAL_MODEL_PATH or settings.MODELS_ROOT / PACKAGED_MODEL
    path = Path(folder).expanduser() / TOKENIZER
    return path if path.is_file() else None


def counter_of(tokenizer: str | Path | None) -> Counter:
    """Counts by the tokenizer.json at this path; without one, characters."""
    if not tokenizer:
        return len
    from tokenizers import Tokenizer

    return _Tokens(Tokenizer.from_file(str(tokenizer)))


class _Tokens:
    def __init__(self, tokenizer: "object") -> None:
        self._tokenizer = tokenizer
        self._characters = self._tokens = 0

    def __call__(self, text: str) -> int:
        if self._characters > EXACT_CHARACTERS:
            return round(len(text) * self._tokens / self._characters)
        tokens = len(self._tokenizer.encode(text, add_special_tokens=False))  # type: ignore[attr-defined]
        self._characters += len(text)
        self._tokens += tokens
        return tokens


def length_of(row: Row, count: Counter) -> int:
    """The length of a row: of its turns with what a template adds, and of its answer."""
    around = TOKENS_OF_A_TURN * (len(prompt_of(row)) + 1) if count is not len and "text" not in row else 0
    return sum(map(count, texts_of(row))) + around
