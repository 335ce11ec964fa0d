"""What an answer stands on, to and from its rows."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from embeddings.models import DocumentVersion
from inference.grounding.grounds import STORED_FIELDS, Grounds, Source
from inference.models import AnswerSource, Generation

_IDS = ("document", "version", "collection")


def values_of(grounds: Grounds | None) -> dict[str, Any]:
    """What the row of an answer says of it."""
    if grounds is None:
        return {"grounding": "", "confidence": None}
    return {"grounding": grounds.kind, "confidence": grounds.confidence}


def source_values(grounds: Grounds, gone: Iterable[str] = ()) -> list[dict[str, Any]]:
    """What the rows of its sources say, but for the answer's id; of versions that are `gone`, the mark."""
    rows = []
    for number, source in enumerate(grounds.sources, start=1):
        values = {name: getattr(source, name) for name in STORED_FIELDS}
        values |= {name: UUID(values[name]) for name in _IDS}
        if source.version in gone:
            values |= {"title": "", "text": ""}
        rows.append({"number": number, **values})
    return rows


def gone_versions(sources: Iterable[Source]) -> set[str]:
    """The versions among `sources` that have been deleted or replaced since they were found.

    That of a collection that is being deleted is gone: its documents have no mark of their own.
    """
    wanted = {source.version for source in sources}
    there = DocumentVersion.objects.filter(
        pk__in=wanted, document__deleting_at=None, document__collection__deleting_at=None
    )
    return wanted - {str(pk) for pk in there.values_list("pk", flat=True)}


def grounds_of(generation: Generation) -> Grounds | None:
    """What an answer stands on; None where no documents were asked. Its sources have been read with it."""
    if not generation.grounding:
        return None
    return Grounds(
        kind=generation.grounding,  # type: ignore[arg-type]
        confidence=generation.confidence or 0.0,
        sources=tuple(map(_source, generation.sources.all())),
    )


def _source(row: AnswerSource) -> Source:
    values = {name: getattr(row, name) for name in STORED_FIELDS}
    values |= {name: str(values[name]) for name in _IDS}
    if row.is_withheld:
        values |= {"title": "", "text": "", "withheld": True}
    return Source(**values)
