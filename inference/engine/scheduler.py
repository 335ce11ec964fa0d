"""Continuous batching: answers join and leave a running batch, one token a step for each of them.

One thread owns the runner. Each of its steps reads one chunk of one waiting prompt and then writes
one token for every answer that is under way, so neither a long prompt nor a late arrival holds up
the others. The runner's rows are kept packed: rows 0 to live - 1 are being decoded, the prompts
still being read follow.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from inference.engine.runner import Logits, Runner
from inference.engine.sampling import Sampler, Sampling
from inference.engine.text import Decode, Detokenizer, StopStrings

logger = structlog.get_logger(__name__)


class QueueFull(Exception):
    """No more requests are taken for now."""


class SchedulerClosed(Exception):
    """The engine is stopping."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer. `output_tokens` counts every token the model chose, its end mark too."""

    finish_reason: Literal["stop", "length"]
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of an answer that broke off; the reason is in the log."""


Event = Piece | Done | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What is asked for. The prompt must fit the runner's context."""

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()


class Job:
    """One answer on its way. `report` is called from the engine's thread, the end exactly once."""

    def __init__(self, generation: Generation, report: Callable[[Event], None], decode: Decode) -> None:
        self.generation = generation
        self.cancelled = False
        self.row = -1
        self.written = 0  # Tokens of this answer that the runner's row holds.
        self.last_token = -1
        self.output_tokens = 0
        self._report = report
        self._sampler = Sampler(generation.sampling)
        self._detokenizer = Detokenizer(decode)
        self._stop = StopStrings(generation.stop)

    def next_chunk(self, size: int) -> Sequence[int]:
        """The prompt tokens that the runner has not read yet, `size` at most."""
        return self.generation.prompt[self.written : self.written + size]

    @property
    def prompt_read(self) -> bool:
        return self.written >= len(self.generation.prompt)

    def advance(self, logits: Logits, end_tokens: frozenset[int]) -> bool:
        """Choose a token and report its text. Returns whether the answer is at its end."""
        self.last_token = self._sampler.choose(logits)
        self.output_tokens += 1
        if self.last_token in end_tokens:
            return self._end("stop")
        shown, stopped = self._stop.push(self._detokenizer.push(self.last_token))
        self._show(shown)
        if stopped:
            return self._finish("stop")
        if self.output_tokens >= self.generation.max_tokens:
            return self._end("length")
        return False

    def fail(self) -> None:
        self._report(Failed())

    def _end(self, reason: Literal["stop", "length"]) -> bool:
        """Show what was held back, which may still hold a stop string, and finish."""
        shown, stopped = self._stop.push(self._detokenizer.flush())
        self._show(shown if stopped else shown + self._stop.flush())
        return self._finish("stop" if stopped else reason)

    def _finish(self, reason: Literal["stop", "length"]) -> bool:
        self._report(Done(reason, len(self.generation.prompt), self.output_tokens))
        return True

    def _show(self, text: str) -> None:
        if text:
            self._report(Piece(text))


class Scheduler:
    """Runs jobs on a runner. `submit`, `cancel` and `close` may be called from any thread."""

    def __init__(
        self, runner: Runner, decode: Decode, *, end_tokens: frozenset[int], queue_limit: int = 64
    ) -> None:
        self._runner = runner
        self._decode = decode
        self._end_tokens = end_tokens
        self._queue_limit = queue_limit
        self._queue: deque[Job] = deque()
        self._jobs: list[Job] = []  # By row.
        self._live = 0  # How many of the rows, the first ones, are being decoded.
        self._reading: deque[Job] = deque()  # The other rows, the next to be read first.
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def slots_in_use(self) -> int:
        return len(self._jobs)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def submit(self, generation: Generation, report: Callable[[Event], None]) -> Job:
        """Take a request in. Raises QueueFull or SchedulerClosed."""
        job = Job(generation, report, self._decode)
        with self._changed:
            if self._closed:
                raise SchedulerClosed
            free = self._runner.slots - len(self._jobs)
            if len(self._queue) >= self._queue_limit + free:
                raise QueueFull
            self._queue.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Drop a job before its next token; nothing more is reported for it after that."""
        with self._changed:
            job.cancelled = True
            if job in self._queue:
                self._queue.remove(job)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after its current step; what is unfinished fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._step()
            except Exception:
                # A fault of ours, not of one prompt: nobody may be left waiting for an answer.
                self._fail_all()
        for job in [*self._jobs, *self._queue]:
            job.fail()

    def _step(self) -> None:
        self._drop_cancelled()
        self._admit()
        self._read_one_chunk()
        self._decode_all()

    def _fail_all(self) -> None:
        logger.exception("a step of the engine failed", answers=len(self._jobs))
        jobs, self._jobs, self._live = self._jobs, [], 0
        self._reading.clear()
        for job in jobs:
            job.fail()

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queue or self._jobs)
            return not self._closed

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.cancelled]:
            self._remove(job)

    def _admit(self) -> None:
        """Give waiting requests the free rows; a new prompt is read before those begun go on."""
        arrived: list[Job] = []
        with self._changed:
            while self._queue and len(self._jobs) < self._runner.slots:
                job = self._queue.popleft()
                if job.cancelled:
                    continue
                job.row = len(self._jobs)
                self._jobs.append(job)
                arrived.append(job)
        self._reading.extendleft(reversed(arrived))

    def _read_one_chunk(self) -> None:
        """Read on in the prompts, in turns, so that a short one waits for one chunk of each long one."""
        if not self._reading:
            return
        job = self._reading.popleft()
        tokens = job.next_chunk(self._runner.chunk)
        try:
            logits = self._runner.prefill(job.row, tokens, job.written)
        except Exception:
            self._fail([job])
            return
        job.written += len(tokens)
        if not job.prompt_read:
            self._reading.append(job)
            return
        self._swap(job.row, self._live)
        self._live += 1
        self._advance(job, logits)

    def _decode_all(self) -> None:
        jobs = self._jobs[: self._live]
        if not jobs:
            return
        try:
            logits = self._runner.decode([job.last_token for job in jobs], [job.written for job in jobs])
        except Exception:
            self._fail(jobs)
            return
        # All of them first: an answer that ends moves other rows, with everything they hold.
        for job in jobs:
            job.written += 1
        for job, row in zip(jobs, logits, strict=True):
            self._advance(job, row)

    def _advance(self, job: Job, logits: Logits) -> None:
        if job.cancelled or job.advance(logits, self._end_tokens):
            self._remove(job)

    def _fail(self, jobs: Sequence[Job]) -> None:
        logger.exception("the model failed", answers=len(jobs))
        for job in jobs:
            self._remove(job)
            job.fail()

    def _remove(self, job: Job) -> None:
        """Free the job's row: the last live row, and then the last row of all, fill its place."""
        if job.row < self._live:
            self._live -= 1
            self._swap(job.row, self._live)
        else:
            self._reading = deque(other for other in self._reading if other is not job)
        self._swap(job.row, len(self._jobs) - 1)
        self._runner.release(job.row)
        self._jobs.pop()

    def _swap(self, first: int, second: int) -> None:
        if first == second:
            return
        one, other = self._jobs[first], self._jobs[second]
        self._runner.swap(first, second, max(one.written, other.written))
        self._jobs[first], self._jobs[second] = other, one
        one.row, other.row = second, first
