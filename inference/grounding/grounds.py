"""What an answer stands on: the passages it was given, as they are told, kept and stored. Plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Kind = Literal["passages", "extract", "nothing"]
"""Who answers: a model that was given the passages, the passages themselves, or nobody."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One passage as it was given. `text` is that of the page from `start` to `end`, in characters.

    `page` is None where the document has none. `version` tells contents of the document apart. `withheld` is
    whether its reader may not read it any more; then it has no title and no text.
    """

    document: str
    version: str
    collection: str
    title: str
    page: int | None
    start: int
    end: int
    text: str
    score: float
    withheld: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What one answer stands on. `confidence` is how likely the documents have an answer, from 0 to 1."""

    kind: Kind
    confidence: float
    sources: tuple[Source, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the documents have something to say."""
        return self.kind != "nothing"

    @property
    def extract(self) -> bool:
        """Whether the answer is made of sentences of the passages, and no model was asked."""
        return self.kind == "extract"

    def told_sources(self) -> list[dict[str, Any]]:
        """The sources as all doors tell them, numbered as the answer cites them.

        An empty text is that of a document that has been deleted or replaced since, or that is `withheld`.
        """
        return [{"n": number, **asdict(source)} for number, source in enumerate(self.sources, start=1)]


def grounds_from(data: object) -> Grounds | None:
    """The inverse of `dataclasses.asdict`. Raises TypeError or ValueError for what is none."""
    if data is None:
        return None
    values = dict(_mapping(data))
    if values.get("kind") not in KINDS:
        raise ValueError("no kind of grounds")
    sources = tuple(Source(**_mapping(source)) for source in values.pop("sources"))
    return Grounds(**values, sources=sources)


def _mapping(data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise TypeError("no object")
    return data


STORED_FIELDS = tuple(field.name for field in fields(Source) if field.name != "withheld")
"""What a source's row has; who may read it changes, and is asked each time."""
