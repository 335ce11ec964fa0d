"""Feedback as rows to train on, and as a table to look at.

Only what may be used: of people who allowed training when they wrote it and allow it now.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import QuerySet

from feedback.models import Example, ExampleKind, Feedback, ReviewStatus
from feedback.turns import Turn, branches_of, prompt_of

PAGE = 500
"""How many rows are read at once, each time by queries of their own: no cursor is left open."""


class ExportFormat(models.TextChoices):
    """The shapes, as trl's trainers and `datasets` read them.

    SFT         {"messages": [turn, …]}, the last one the accepted answer
    DPO         {"prompt": [turn, …], "chosen": [turn], "rejected": [turn]}
    KTO         {"prompt": [turn, …], "completion": [turn], "label": true | false}
    CSV         one flat row for each feedback; its columns are `COLUMNS`

    A turn is {"role", "content"}. SFT and DPO are what curators accepted. KTO has every rating that no
    curator rejected, and CSV all feedback.
    """

    SFT = "sft"
    DPO = "dpo"
    KTO = "kto"
    CSV = "csv"


COLUMNS = (
    "feedback",
    "created_at",
    "rating",
    "tags",
    "comment",
    "correction",
    "question",
    "answer",
    "model",
    "adapter",
    "status",
    "label",
    "scope",
    "consented_at",
)


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One row and where it comes from."""

    feedback_id: UUID
    user_id: int
    data: dict[str, Any]
    author: UUID
    """The pseudonym of the person."""
    consented_at: datetime
    """When they allowed training."""
    message_id: UUID
    model: str
    """The alias of the model whose answer it was, and its adapter, if any."""
    adapter: str


def rows(wanted: ExportFormat | str) -> Iterator[ExportRow]:
    """All rows of one shape, the oldest first, read a page at a time. Raises ValueError for another shape."""
    return _SOURCES[ExportFormat(wanted)]()


def count(wanted: ExportFormat | str) -> int:
    """How many rows there are about to be. Raises ValueError for another shape."""
    match ExportFormat(wanted):
        case ExportFormat.SFT:
            return _examples(ExampleKind.SFT).count()
        case ExportFormat.DPO:
            return _examples(ExampleKind.PREFERENCE).count()
        case ExportFormat.KTO:
            return _rated().count()
        case ExportFormat.CSV:
            return Feedback.objects.trainable().count()


def _sft() -> Iterator[ExportRow]:
    for page in _pages(_examples(ExampleKind.SFT)):
        for example in page:
            yield _row(example.feedback, {"messages": [*example.prompt, _said(example.chosen)]})


def _dpo() -> Iterator[ExportRow]:
    for page in _pages(_examples(ExampleKind.PREFERENCE)):
        for example in page:
            pair = {"chosen": [_said(example.chosen)], "rejected": [_said(example.rejected)]}
            yield _row(example.feedback, {"prompt": example.prompt, **pair})


def _kto() -> Iterator[ExportRow]:
    for page in _pages(_rated()):
        branches = branches_of([feedback.message for feedback in page])
        for feedback in page:
            prompt = prompt_of(feedback.message.conversation.preface, branches[feedback.message_id])
            rated = {"completion": [_said(feedback.message.content)], "label": feedback.rating > 0}
            yield _row(feedback, {"prompt": prompt, **rated})


def _csv() -> Iterator[ExportRow]:
    for page in _pages(_with_answers(Feedback.objects.trainable().select_related("message__parent"))):
        for feedback in page:
            yield _row(feedback, _flat(feedback))


_SOURCES: dict[ExportFormat, Callable[[], Iterator[ExportRow]]] = {
    ExportFormat.SFT: _sft,
    ExportFormat.DPO: _dpo,
    ExportFormat.KTO: _kto,
    ExportFormat.CSV: _csv,
}


def _examples(kind: ExampleKind) -> QuerySet[Example]:
    # What is not accepted any more has no examples either; a row that is left over must teach nothing.
    accepted = Example.objects.trainable().filter(kind=kind, feedback__status=ReviewStatus.ACCEPTED)
    return accepted.select_related("feedback__user", "feedback__message__generation")


def _rated() -> QuerySet[Feedback]:
    rated = Feedback.objects.trainable().exclude(status=ReviewStatus.REJECTED).exclude(message__content="")
    return _with_answers(rated.select_related("message__conversation"))


def _with_answers(feedback: QuerySet[Feedback]) -> QuerySet[Feedback]:
    return feedback.select_related("user", "message__generation")


def _pages(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    """The rows in the order of their ids, which is that of time."""
    rows = rows.order_by("pk")
    page = list(rows[:PAGE])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1].pk)[:PAGE])


def _row(feedback: Feedback, data: dict[str, Any]) -> ExportRow:
    assert feedback.consented_at is not None
    generation = getattr(feedback.message, "generation", None)
    return ExportRow(
        feedback.pk,
        feedback.user_id,
        data,
        author=feedback.user.pseudonym,
        consented_at=feedback.consented_at,
        message_id=feedback.message_id,
        model=generation.model_alias if generation else "",
        adapter=generation.adapter if generation else "",
    )


def _said(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def _flat(feedback: Feedback) -> dict[str, Any]:
    generation = getattr(feedback.message, "generation", None)
    question = feedback.message.parent
    values = (
        str(feedback.pk),
        feedback.created_at.isoformat(),
        feedback.rating,
        " ".join(feedback.tags),
        feedback.comment,
        feedback.correction,
        question.content if question else "",
        feedback.message.content,
        generation.model_alias if generation else "",
        generation.adapter if generation else "",
        feedback.status,
        feedback.label,
        feedback.scope,
        feedback.consented_at.isoformat() if feedback.consented_at else "",
    )
    return dict(zip(COLUMNS, values, strict=True))
