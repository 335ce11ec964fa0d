"""Measures a model before and after a run: its losses on rows that it has not seen, and its answers.

The weights are loaded once; with its adapter set aside the model is what it was before. Each row gives the
loss of its answer's tokens. All cases, and some of the held-out rows, are also answered, greedily, and
compared with the right answer (`training.scores`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from training.child.base import TrainingChat, load_chat, load_model
from training.child.job import Job
from training.child.rows import IGNORED, Encoded, encoded
from training.rows import Row, answer_of, prompt_of, read_file
from training.scores import exact_match, rouge_l

BATCH = 8


@dataclass(slots=True)
class Measure:
    """One model on one set of rows; `as_dict` is one side of `Evaluation.results`."""

    losses: list[float] = field(default_factory=list)
    """The sum of its tokens' losses, for each row."""
    tokens: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    matches: list[bool] = field(default_factory=list)
    likeness: list[float] = field(default_factory=list)

    def take(self, answer: str, expected: str) -> None:
        self.answers.append(answer)
        self.matches.append(exact_match(answer, expected))
        self.likeness.append(rouge_l(answer, expected))

    def as_dict(self) -> dict[str, Any]:
        return {
            "count": len(self.losses),
            "answered": len(self.answers),
            "loss": _number(_share(sum(self.losses), sum(self.tokens))),
            "exact_match": _share(sum(self.matches), len(self.matches)),
            "rouge_l": _share(sum(self.likeness), len(self.likeness)),
        }

    def of_row(self, number: int) -> dict[str, Any]:
        """What one row gave, which was answered too."""
        return {
            "loss": _number(_share(self.losses[number], self.tokens[number])),
            "exact_match": float(self.matches[number]),
            "rouge_l": self.likeness[number],
        }


def run(job: Job) -> dict[str, Any]:
    """Measure job.data["heldout"] and ["cases"], files of rows in its folder. Each case is told as it stands.

    Of the first `answered` of the held-out rows the answers are measured, too.
    """
    folder = Path(job.data["model"])
    chat = load_chat(folder)
    model = PeftModel.from_pretrained(
        load_model(folder, job.data["device"]), job.folder / job.data["adapter"]
    )
    examiner = Examiner(model.eval(), chat, job)
    heldout, cases = (list(read_file(job.folder / name)) for name in ("heldout.jsonl", "cases.jsonl"))
    # A run that leaves long rows out has not seen how they are answered, so they are left out here too.
    heldout = [row for row in heldout if examiner.fits(row)]
    fitting = [number for number, row in enumerate(cases) if examiner.fits(row)]
    sets = {
        "heldout": examiner.examine(heldout, answered=job.data["answered"]),
        "cases": examiner.examine([cases[number] for number in fitting], answered=len(fitting)),
    }
    for place, number in enumerate(fitting):
        job.tell("case", number=number, **_case(sets["cases"], place))
    return {name: {side: one.as_dict() for side, one in sides.items()} for name, sides in sets.items()}


def _case(sides: dict[str, Measure], number: int) -> dict[str, Any]:
    answers = {side: one.answers[number] for side, one in sides.items()}
    return {**answers, "scores": {side: one.of_row(number) for side, one in sides.items()}}


class Examiner:
    """A model with its adapter, and how far the examination has come."""

    def __init__(self, model: Any, chat: TrainingChat, job: Job) -> None:
        self._model = model
        self._chat = chat
        self._job = job
        self._limit = int(job.data["max_length"])
        self._most = int(job.data["tokens"])
        self._done = 0

    def fits(self, row: Row) -> bool:
        """Whether the model can read it: a case may have more turns than any row it was trained on."""
        try:
            return len(encoded(row, self._chat).tokens) <= self._limit
        except ValueError:  # The model's template does not take such turns.
            return False

    def examine(self, rows: Sequence[Row], *, answered: int) -> dict[str, Measure]:
        """The same rows before and after."""
        sides: dict[str, Callable[[], AbstractContextManager[Any]]] = {
            "before": self._model.disable_adapter,
            "after": nullcontext,
        }
        measures = {}
        for side, adapter_or_not in sides.items():
            with adapter_or_not():
                measures[side] = self._measure(rows, answered)
        return measures

    @torch.inference_mode()
    def _measure(self, rows: Sequence[Row], answered: int) -> Measure:
        measure = Measure()
        for batch in _batches(rows):
            for loss, tokens in self._losses([encoded(row, self._chat) for row in batch]):
                measure.losses.append(loss)
                measure.tokens.append(tokens)
            self._tell(len(batch))
        for batch in _batches([row for row in rows[:answered] if prompt_of(row)]):
            for row, answer in zip(batch, self._answers(batch), strict=True):
                measure.take(answer, answer_of(row))
            self._tell(len(batch))
        return measure

    def _tell(self, rows: int) -> None:
        self._done += rows
        self._job.tell("progress", done=self._done)

    # --- The model ---------------------------------------------------------------------------------

    def _losses(self, rows: Sequence[Encoded]) -> Iterator[tuple[float, int]]:
        """The sum of the losses of each row's answer, and of how many tokens it is."""
        tokens, mask = self._padded([row.tokens for row in rows], left=False)
        labels = torch.full_like(tokens, IGNORED)
        for number, row in enumerate(rows):
            labels[number, : len(row.tokens)] = torch.tensor(row.labels)
        logits = self._model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        for number in range(len(rows)):
            wanted = labels[number, 1:]
            loss = torch.nn.functional.cross_entropy(
                logits[number, :-1].float(), wanted, ignore_index=IGNORED, reduction="sum"
            )
            yield float(loss), int((wanted != IGNORED).sum())

    def _answers(self, rows: Sequence[Row]) -> list[str]:
        prompts = [self._prompt(row) for row in rows]
        tokens, mask = self._padded(prompts, left=True)
        written = self._model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=self._most,
            do_sample=False,
            eos_token_id=[self._chat.end, *self._chat.end_tokens],
            pad_token_id=self._chat.pad,
        )
        return [self._chat.decode(row.tolist()).strip() for row in written[:, tokens.shape[1] :]]

    def _prompt(self, row: Row) -> list[int]:
        one = encoded(row, self._chat)
        return one.tokens[: one.answer_from]

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Any, Any]:
        """The rows as one tensor, and where in it something stands."""
        longest = max(map(len, rows))
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            place = slice(longest - len(row), longest) if left else slice(0, len(row))
            tokens[number, place] = torch.tensor(row)
            mask[number, place] = 1
        return tokens.to(self._model.device), mask.to(self._model.device)


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


def _number(value: float) -> float | None:
    """JSON has no other numbers than these."""
    return value if math.isfinite(value) else None
