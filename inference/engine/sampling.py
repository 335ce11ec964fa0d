"""Choose the next token from a row's logits."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from inference.engine.runner import Logits

NUCLEUS_GUESS = 512
"""How many of the likeliest tokens are sorted first; sorting a whole vocabulary takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose. Temperature 0 is greedy, and then top_p and seed change nothing.

    The penalty is taken off a token's logit for each time that the answer has it already.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float | None = None
    """None leaves it to the model."""


@dataclass(slots=True)
class Sampler:
    """One answer's sampling; the same seed gives the same draws, whatever runs beside it."""

    sampling: Sampling
    _random: np.random.Generator = field(init=False, repr=False)
    _counts: Counter[int] = field(init=False, repr=False, default_factory=Counter)

    def __post_init__(self) -> None:
        seed = self.sampling.seed
        # Clients send negative seeds too, and numpy takes none.
        self._random = np.random.default_rng(None if seed is None else seed % 2**64)

    def choose(self, logits: Logits) -> int:
        """The next token, from logits of the shape (vocabulary,), which are left as they are."""
        token = self._choose(self._penalized(logits))
        self._counts[token] += 1
        return token

    def _penalized(self, logits: Logits) -> Logits:
        if not self.sampling.frequency_penalty or not self._counts:
            return logits
        tokens = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
        times = np.fromiter(self._counts.values(), np.float32, len(self._counts))
        penalized = logits.copy()
        penalized[tokens] -= np.float32(self.sampling.frequency_penalty) * times
        return penalized

    def _choose(self, logits: Logits) -> int:
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        probabilities = softmax(logits, self.sampling.temperature)
        if self.sampling.top_p >= 1:
            return draw(probabilities, self._random.random())
        tokens = nucleus(probabilities, self.sampling.top_p)
        return int(tokens[draw(probabilities[tokens], self._random.random())])


def softmax(logits: Logits, temperature: float) -> Logits:
    """Probabilities of the shape of `logits`, which must be finite."""
    # The peak is taken off before the division, so that the smallest temperature cannot overflow.
    shifted = (logits - logits.max()) / np.float32(max(temperature, 1e-6))
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(), np.float32)


def nucleus(probabilities: Logits, top_p: float) -> np.ndarray:
    """The fewest tokens whose probabilities add up to `top_p`, the likeliest first."""
    candidates = (
        np.argpartition(probabilities, -NUCLEUS_GUESS)[-NUCLEUS_GUESS:]
        if (probabilities.size > NUCLEUS_GUESS)
        else np.arange(probabilities.size)
    )
    if probabilities[candidates].sum() < top_p:
        candidates = np.arange(probabilities.size)
    ordered = candidates[np.argsort(-probabilities[candidates], kind="stable")]
    kept = int(np.searchsorted(np.cumsum(probabilities[ordered]), top_p)) + 1
    return np.asarray(ordered[:kept])


def draw(weights: Logits, fraction: float) -> int:
    """The index at `fraction` (0 to 1) of the weights' running sum; they need not add up to 1."""
    running = np.cumsum(weights, dtype=np.float64)
    return min(int(np.searchsorted(running, fraction * running[-1], side="right")), len(running) - 1)
