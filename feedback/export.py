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


Said = tuple[Feedback, dict[str, Any]]
"""What was said, as a row of some shape."""


def rows(wanted: ExportFormat | str) -> Iterator[ExportRow]:
    """All rows of one shape, the oldest first, read a page at a time. Raises ValueError for another shape."""
    wanted = ExportFormat(wanted)
    return (_row(feedback, data) for feedback, data in _SOURCES[wanted](_trainable(wanted)))


def known(wanted: ExportFormat) -> Iterator[Said]:
    """The rows of all people, whatever they allow: to know them again where they come back, not to train."""
    if wanted in _KINDS:
        return _SOURCES[wanted](Example.objects.filter(kind=_KINDS[wanted]))
    return _SOURCES[wanted](Feedback.objects.exclude(message__content=""))


def count(wanted: ExportFormat | str) -> int:
    """How many rows there are about to be. Raises ValueError for another shape."""
    return _trainable(ExportFormat(wanted)).count()


def _sft(examples: QuerySet[Example]) -> Iterator[Said]:
    for page in _pages(examples.select_related("feedback__user", "feedback__message__generation")):
        for example in page:
            yield example.feedback, {"messages": [*example.prompt, _said(example.chosen)]}


def _dpo(examples: QuerySet[Example]) -> Iterator[Said]:
    for page in _pages(examples.select_related("feedback__user", "feedback__message__generation")):
        for example in page:
            pair = {"chosen": [_said(example.chosen)], "rejected": [_said(example.rejected)]}
            yield example.feedback, {"prompt": example.prompt, **pair}


def _kto(rated: QuerySet[Feedback]) -> Iterator[Said]:
    for page in _pages(_with_answers(rated.select_related("message__conversation"))):
        branches = branches_of([feedback.message for feedback in page])
        for feedback in page:
            prompt = prompt_of(feedback.message.conversation.preface, branches[feedback.message_id])
            rated_as = {"completion": [_said(feedback.message.content)], "label": feedback.rating > 0}
            yield feedback, {"prompt": prompt, **rated_as}


def _csv(said: QuerySet[Feedback]) -> Iterator[Said]:
    for page in _pages(_with_answers(said.select_related("message__parent"))):
        for feedback in page:
            yield feedback, _flat(feedback)


_SOURCES: dict[ExportFormat, Callable[[QuerySet[Any]], Iterator[Said]]] = {
    ExportFormat.SFT: _sft,
    ExportFormat.DPO: _dpo,
    ExportFormat.KTO: _kto,
    ExportFormat.CSV: _csv,
}


_KINDS = {ExportFormat.SFT: ExampleKind.SFT, ExportFormat.DPO: ExampleKind.PREFERENCE}


def _trainable(wanted: ExportFormat) -> QuerySet[Any]:
    if wanted in _KINDS:
        # What is not accepted any more has no examples either; a row that is left over must teach nothing.
        accepted = Example.objects.trainable().filter(feedback__status=ReviewStatus.ACCEPTED)
        return accepted.filter(kind=_KINDS[wanted])
    if wanted is ExportFormat.CSV:
        return Feedback.objects.trainable()
    return Feedback.objects.trainable().exclude(status=ReviewStatus.REJECTED).exclude(message__content="")


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
