"""Lets the texts of many requests go through the model together.

While one batch is computed, requests gather; the next batch takes from all of them. A request with many texts
gives up its turn after each batch, so a single question waits for one batch and not for a whole book.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from embeddings.encoder import Vectors
from embeddings.errors import EmbedderClosed, QueueFull
from embeddings.texts import Kind

BATCH_TEXTS = 32
MOST_WAITING = 16_000_000
"""Characters of all texts that wait; a single request always may."""

Encode = Callable[[Sequence[str], Kind], Vectors]


class Job:
    """The texts of one request. They go shortest first, because a batch is as long as its longest text."""

    def __init__(self, texts: Sequence[str], lengths: Sequence[int], kind: Kind) -> None:
        self.kind: Kind = kind
        self.result: Future[Vectors] = Future()
        self.characters = sum(map(len, texts))
        self.waiting = deque(sorted(range(len(texts)), key=lengths.__getitem__))
        self.texts, self.lengths = texts, lengths
        self._vectors: list[Vectors | None] = [None] * len(texts)
        self._missing = len(texts)

    def put(self, at: int, vector: Vectors) -> None:
        self._vectors[at] = vector
        self._missing -= 1
        if not self._missing and self._is_wanted():
            self.result.set_result(np.stack([one for one in self._vectors if one is not None]))

    def fail(self, error: Exception) -> None:
        self.waiting.clear()
        if self._is_wanted():
            self.result.set_exception(error)

    def _is_wanted(self) -> bool:
        return not self.result.done() and self.result.set_running_or_notify_cancel()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vector of a batch belongs."""

    job: Job
    at: int

    @property
    def text(self) -> str:
        return self.job.texts[self.at]


class Batches:
    """The queue before the model. `most_tokens` is what one batch may have, its padding included."""

    def __init__(self, *, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Texts that nobody has begun to read."""
        with self._changed:
            self._drop_what_is_over()
            return sum(len(job.waiting) for job in self._jobs)

    def submit(self, texts: Sequence[str], lengths: Sequence[int], kind: Kind) -> "Future[Vectors]":
        """The vectors of `texts`, later; cancelling gives up the texts that still wait.

        `lengths` are the tokens that the model will read of each. Raises QueueFull or EmbedderClosed.
        """
        job = Job(texts, lengths, kind)
        with self._changed:
            if self._closed:
                raise EmbedderClosed
            self._drop_what_is_over()
            waiting = sum(job.characters for job in self._jobs)
            if self._jobs and waiting + job.characters > MOST_WAITING:
                raise QueueFull
            self._jobs.append(job)
            self._changed.notify()
        return job.result

    def run(self, encode: Encode) -> None:
        """Work until `close`, in the calling thread."""
        while batch := self._next():
            try:
                vectors = encode([place.text for place in batch], batch[0].job.kind)
            except Exception as error:
                for place in batch:
                    place.job.fail(error)
                continue
            for place, vector in zip(batch, vectors, strict=True):
                place.job.put(place.at, vector)

    def close(self) -> None:
        """Take no more texts, and give up those that wait."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.fail(EmbedderClosed())
            self._changed.notify()

    def _next(self) -> list[Place]:
        """The next batch, waiting for one; empty when it is over."""
        with self._changed:
            while not self._closed:
                if batch := self._take():
                    return batch
                self._changed.wait()
            return []

    def _take(self) -> list[Place]:
        self._drop_what_is_over()
        batch: list[Place] = []
        for job in self._jobs:
            if job.kind == self._jobs[0].kind:
                self._take_from(job, batch)
        self._jobs.rotate(-1)  # Who was first and has texts left is last in the next round.
        return batch

    def _drop_what_is_over(self) -> None:
        self._jobs = deque(job for job in self._jobs if job.waiting and not job.result.cancelled())

    def _take_from(self, job: Job, batch: list[Place]) -> None:
        """Move texts of `job` into `batch` as long as they fit; the first one always does."""
        longest = max((place.job.lengths[place.at] for place in batch), default=0)
        while job.waiting and len(batch) < BATCH_TEXTS:
            longest = max(longest, job.lengths[job.waiting[0]])
            if batch and longest * (len(batch) + 1) > self._most_tokens:
                return
            batch.append(Place(job, job.waiting.popleft()))
