"""Questions that were made ready a moment ago, for callers who ask the same again.

Making one ready takes longer than finding its answer in memory. What it comes to depends on the words, on the
caller's rights and on the models' rows, so it is kept only while all three are the very same objects: the
caller's are read anew every few seconds, the models' twice a second (accounts.recent, inference.catalogue).
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

from inference.ask import NEWEST_LEAF, Ask, Shape
from inference.catalogue import Snapshot

T = TypeVar("T")

MOST = 1000
MOST_CHARACTERS = 8000
"""Of one question; together they stay below some megabytes."""
_PLAIN = Shape()


class RecentQuestions(Generic[T]):
    """What questions came to since the models' rows were last read; all of it goes when they are again."""

    def __init__(self) -> None:
        self._models: Snapshot | None = None
        self._kept: dict[Hashable, tuple[Ask, T]] = {}

    def find(self, ask: Ask, models: Snapshot) -> T | None:
        """What `keep` was given for the same words, caller and models; None for anything else."""
        if models is not self._models:
            self._models, self._kept = models, {}
            return None
        name = _name(ask)
        if name is None or (found := self._kept.get(name)) is None:
            return None
        kept, made = found
        return made if kept.user is ask.user and kept.api_key is ask.api_key else None

    def keep(self, ask: Ask, models: Snapshot, made: T) -> None:
        """Behind `find`, which has looked at the models; what comes when it is full is not kept."""
        name = _name(ask)
        if name is not None and models is self._models and (name in self._kept or len(self._kept) < MOST):
            self._kept[name] = ask, made


def _name(ask: Ask) -> Hashable:
    """All that differs between questions of a few words that stand for themselves; None for others."""
    stands_alone = ask.conversation is None and ask.parent is NEWEST_LEAF and ask.regenerate is None
    if not stands_alone or ask.grounding is not None or ask.history or ask.shape != _PLAIN:
        return None
    if len(ask.prompt) + len(ask.system or "") > MOST_CHARACTERS:
        return None
    words = ask.prompt, ask.system
    return ask.user.pk, words, ask.model, ask.provider, ask.sampling, ask.choice, ask.may_be_kept
