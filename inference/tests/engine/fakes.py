"""A runner without a model: it answers with a script and checks how the scheduler uses its rows."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from inference.engine.runner import Logits

END = 0


class ScriptedRunner:
    """Every row continues its prompt by `next_token`, a function of all its tokens so far.

    It keeps each row's tokens as a real model keeps keys and values, so a wrong position, a lost
    swap or a row that was mixed up changes the answer or fails at once.
    """

    def __init__(
        self,
        next_token: Callable[[Sequence[int]], int],
        *,
        slots: int = 4,
        context: int = 64,
        chunk: int = 4,
        vocabulary: int = 256,
    ) -> None:
        self.slots, self.context, self.chunk = slots, context, chunk
        self.calls: list[tuple[str, int]] = []
        """What was asked for: ("prefill", tokens) or ("decode", rows)."""
        self.gate = threading.Semaphore(0)
        self.gated = False
        """While true, every call waits for one release of the gate."""
        self.fail_when: Callable[[str, Sequence[int]], bool] = lambda _kind, _tokens: False
        self._rows: list[list[int]] = [[] for _ in range(slots)]
        self._next_token = next_token
        self._vocabulary = vocabulary

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        self._enter("prefill", len(tokens), tokens)
        assert len(tokens) <= self.chunk
        return self._write(row, tokens, start)

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Logits:
        self._enter("decode", len(tokens), tokens)
        rows = enumerate(zip(tokens, lengths, strict=True))
        return np.stack([self._write(row, [token], length) for row, (token, length) in rows])

    def swap(self, first: int, second: int, length: int) -> None:
        assert max(len(self._rows[first][:length]), len(self._rows[second][:length])) <= length
        self._rows[first], self._rows[second] = self._rows[second][:length], self._rows[first][:length]

    def release(self, row: int) -> None:
        self._rows[row] = []

    def _enter(self, kind: str, size: int, tokens: Sequence[int]) -> None:
        if self.gated:
            self.gate.acquire()
        self.calls.append((kind, size))
        if self.fail_when(kind, tokens):
            raise RuntimeError("no memory")

    def _write(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        assert len(self._rows[row][:start]) == start, "the row holds less than the scheduler thinks"
        self._rows[row] = [*self._rows[row][:start], *tokens]
        logits = np.zeros(self._vocabulary, np.float32)
        logits[self._next_token(self._rows[row])] = 1
        return logits


def decode_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer with one token for each byte; 0 is its end mark."""
    return bytes(token for token in tokens if token != END).decode(errors="replace")


def saying(text: str) -> Callable[[Sequence[int]], int]:
    """Answers every prompt, which must end in byte 255, with `text` and the end mark."""
    answer = [*text.encode(), END]

    def next_token(tokens: Sequence[int]) -> int:
        # Before its end a prompt is only being read, and nobody asks what comes next.
        return answer[len(tokens) - 1 - tokens.index(255)] if 255 in tokens else END

    return next_token


def counting(tokens: Sequence[int]) -> int:
    """A continuation that depends on all that stands before it, and never ends."""
    return 97 + (sum(tokens) * 7 + len(tokens)) % 26
