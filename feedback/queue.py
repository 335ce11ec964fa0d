"""The queue of feedback: filtered, newest first, a page or a neighbour at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Left
from django.utils import timezone

from accounts.models import User
from feedback.models import Feedback, ReviewStatus, Tag
from feedback.models.feedback import BAD, CLAIM_LASTS, GOOD, FeedbackQuerySet

SHOWN = 50
"""How many entries stand on one page."""
EXCERPT = 200
"""How many characters of a text the list shows."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are looked at. Empty values let all through; of the states it is always one."""

    status: str = ReviewStatus.OPEN
    rating: int | None = None
    tag: str = ""
    model: str = ""
    corrected: bool = False
    """Only those whose authors wrote a better answer."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "Filters":
        """The filters of an address; what is no filter is passed over."""
        status, rating, tag = (query.get(name, "") for name in ("status", "rating", "tag"))
        return cls(
            status=status if status in ReviewStatus.values else ReviewStatus.OPEN,
            rating={str(one): one for one in (GOOD, BAD)}.get(rating),
            tag=tag if tag in Tag.values else "",
            model=query.get("model", "").replace("\0", "")[:100],
            corrected=query.get("corrected") == "1",
        )

    @property
    def as_query(self) -> dict[str, str]:
        """What an address needs to say them again."""
        values = {
            "status": "" if self.status == ReviewStatus.OPEN else self.status,
            "rating": "" if self.rating is None else str(self.rating),
            "tag": self.tag,
            "model": self.model,
            "corrected": "1" if self.corrected else "",
        }
        return {name: value for name, value in values.items() if value}

    @property
    def are_given(self) -> bool:
        """Whether they let through less than all of one state."""
        return self != Filters(status=self.status)

    def apply(self, rows: FeedbackQuerySet) -> FeedbackQuerySet:
        rows = rows.filter(status=self.status)
        if self.rating is not None:
            rows = rows.filter(rating=self.rating)
        if self.model:
            rows = rows.filter(message__generation__model_alias=self.model)
        if self.corrected:
            rows = rows.exclude(correction="")
        if self.tag:
            rows = rows.tagged(self.tag)
        return rows


@dataclass(frozen=True, slots=True)
class Line:
    """One entry as the list shows it."""

    pk: UUID
    rating: int
    tags: list[str]
    created_at: datetime
    question: str | None
    said: str
    author: str
    model: str | None
    has_correction: bool
    claimed_by_id: int | None
    claimer: str | None
    claimed_at: datetime | None

    @property
    def tag_names(self) -> list[Any]:
        return tag_names(self.tags)

    @property
    def claim_holds(self) -> bool:
        return self.claimed_at is not None and self.claimed_at > timezone.now() - CLAIM_LASTS


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and from which ones the pages beside them are reached; None where there are none."""

    lines: list[Line]
    newer: UUID | None = None
    older: UUID | None = None


def tag_names(tags: list[str]) -> list[Any]:
    """What tags are called; one that is not known any more, by itself."""
    known = dict(Tag.choices)
    return [known.get(tag, tag) for tag in tags]


def page_of(user: User, filters: Filters, *, before: UUID | None = None, after: UUID | None = None) -> Page:
    """The newest entries, or those behind `before`, or those just ahead of `after`, which are entries."""
    rows = filters.apply(Feedback.objects.visible_to(user))
    if after and (place := _place(user, after)):
        lines = _lines(rows.filter(_newer(*place)).order_by("created_at", "-id"))
        has_newer, lines = len(lines) > SHOWN, lines[:SHOWN][::-1]
        return replace(_page(lines, newer=has_newer), older=lines[-1].pk if lines else None)
    place = _place(user, before) if before else None
    if place:
        rows = rows.filter(_older(*place))
    lines = _lines(rows.order_by("-created_at", "id"))
    has_older, lines = len(lines) > SHOWN, lines[:SHOWN]
    return replace(_page(lines, newer=bool(place)), older=lines[-1].pk if has_older else None)


def neighbours_of(user: User, feedback: Feedback, filters: Filters) -> tuple[UUID | None, UUID | None]:
    """The entries just ahead of `feedback` and behind it, in the order of the list."""
    rows = filters.apply(Feedback.objects.visible_to(user)).values_list("pk", flat=True)
    place = (feedback.created_at, feedback.pk)
    newer = rows.filter(_newer(*place)).order_by("created_at", "-id").first()
    older = rows.filter(_older(*place)).order_by("-created_at", "id").first()
    return newer, older


def _page(lines: list[Line], *, newer: bool) -> Page:
    return Page(lines, newer=lines[0].pk if newer and lines else None)


def _place(user: User, pk: UUID) -> tuple[datetime, UUID] | None:
    return Feedback.objects.visible_to(user).filter(pk=pk).values_list("created_at", "pk").first()


# Put so that the index leads to the place: with an OR, PostgreSQL would read from the beginning each time.


def _older(moment: datetime, pk: UUID) -> Q:
    return Q(created_at__lte=moment) & ~Q(created_at=moment, id__lte=pk)


def _newer(moment: datetime, pk: UUID) -> Q:
    return Q(created_at__gte=moment) & ~Q(created_at=moment, id__gte=pk)


def _lines(rows: QuerySet[Feedback]) -> list[Line]:
    """A page of them and one more, without the long texts.

    Which ones they are is asked first: with all that is shown beside it, PostgreSQL would put together every
    entry that a rare filter lets through before it sorts them.
    """
    ids = list(rows.values_list("pk", flat=True)[: SHOWN + 1])
    values = Feedback.objects.filter(pk__in=ids).values(
        "pk",
        "rating",
        "tags",
        "created_at",
        "claimed_by_id",
        "claimed_at",
        question=Left("message__parent__content", EXCERPT),
        said=Left("comment", EXCERPT),
        author=F("user__username"),
        model=F("message__generation__model_alias"),
        claimer=F("claimed_by__username"),
        has_correction=models.Case(
            models.When(correction="", then=Value(False)),
            default=Value(True),
            output_field=models.BooleanField(),
        ),
    )
    lines = {row["pk"]: Line(**row) for row in values}
    return [lines[pk] for pk in ids if pk in lines]
