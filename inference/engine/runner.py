"""What the scheduler asks of a model that runs on this machine."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference.engine.errors import EngineError

__all__ = ["EngineError", "Logits", "Runner"]

Logits = npt.NDArray[np.float32]


class Runner(Protocol):
    """A loaded model with `slots` rows of key-value cache, each `context` tokens long.

    The runner keeps no account of what its rows hold: the scheduler passes the positions. It is
    called from one thread only. A row that is written from position 0 again forgets what it held.
    """

    slots: int
    context: int
    chunk: int
    """How many prompt tokens one call of `prefill` should take, so that a long prompt does not
    hold up the rows that are being decoded."""

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        """Write prompt tokens into `row` from position `start` on.

        Returns the logits after the last of them, shape (vocabulary,).
        """
        ...

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Logits:
        """Write one token into each of the rows 0 to len(tokens) - 1, which hold `lengths` tokens.

        Returns logits of the shape (rows, vocabulary), valid until the next call.
        """
        ...

    def swap(self, first: int, second: int, length: int) -> None:
        """Exchange two rows, of which neither holds more than `length` tokens."""
        ...

    def release(self, row: int) -> None:
        """The row's content is not needed any more; its memory may go back."""
        ...
