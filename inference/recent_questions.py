"""Questions that were made ready a moment ago, for callers who ask the same again.

Making one ready takes longer than finding its answer in memory. What it comes to depends on the words, on the
caller's rights and on the models' rows, so it is kept only while all three are the very same objects: the
caller's are read anew every few seconds, the models' twice a second (accounts.recent, inference.catalogue).
"""

from collections import OrderedDict
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
    """What questions came to, the one that nobody has asked for the longest time first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Ask, Snapshot, T]] = OrderedDict()

    def find(self, ask: Ask, models: Snapshot) -> T | None:
        """What `keep` was given for the same words, caller and models; None for anything else."""
        name = _name(ask)
        if name is None or (found := self._kept.get(name)) is None:
            return None
        kept, snapshot, made = found
        if snapshot is not models or kept.user is not ask.user or kept.api_key is not ask.api_key:
            return None
        self._kept.move_to_end(name)
        return made

    def keep(self, ask: Ask, models: Snapshot, made: T) -> None:
        name = _name(ask)
        if name is None:
            return
        self._kept[name] = ask, models, made
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)


def _name(ask: Ask) -> Hashable:
    """All that differs between questions of a few words that stand for themselves; None for others."""
    stands_alone = ask.conversation is None and ask.parent is NEWEST_LEAF and ask.regenerate is None
    if not stands_alone or ask.grounding is not None or ask.history or ask.shape != _PLAIN:
        return None
    if len(ask.prompt) + len(ask.system or "") > MOST_CHARACTERS:
        return None
    words = ask.prompt, ask.system
    return ask.user.pk, words, ask.model, ask.provider, ask.sampling, ask.choice, ask.may_be_kept
