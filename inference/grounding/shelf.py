"""Which collections a question may be answered from, and what they hold at this moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from channels.db import database_sync_to_async

from accounts.models import Scope, User
from embeddings.models import Collection, access_collection
from inference.ask import Ask
from llmsite.core.errors import NotAllowed


@dataclass(frozen=True, slots=True)
class Shelf:
    """Collections that `reader` may read, each with its version, in the order of their ids.

    An answer that was made from a shelf is good for that shelf alone: another document, another right to
    read, and it is another one.
    """

    reader: User
    versions: tuple[tuple[UUID, int], ...]

    @property
    def ids(self) -> list[UUID]:
        return [pk for pk, _ in self.versions]

    @property
    def terms(self) -> list[list[str | int]]:
        """As it stands in the key of an answer."""
        return [[str(pk), version] for pk, version in self.versions]

    async def is_current(self) -> bool:
        """Whether nothing has changed there since."""
        return await database_sync_to_async(self._is_current)()

    def _is_current(self) -> bool:
        return _read(self.reader, self.ids) == self.versions


@database_sync_to_async
def shelf_of(ask: Ask) -> Shelf:
    """What the question of `ask` may be answered from: one collection, or all of the person and their teams.

    A public one has to be named: anybody may publish, and nobody's question shall be answered by strangers.

    Raises NotFound for a collection that is missing or out of reach, and NotAllowed for an API key that does
    not reach documents.
    """
    assert ask.grounding is not None
    if ask.api_key is not None and not ask.api_key.allows(Scope.DOCUMENTS):
        raise NotAllowed(scope=Scope.DOCUMENTS)
    if ask.grounding.collection is None:
        return Shelf(ask.user, _read(ask.user, None))
    collection = access_collection(ask.user, ask.grounding.collection)
    return Shelf(ask.user, ((collection.pk, collection.version),))


def _read(reader: User, ids: Sequence[UUID] | None) -> tuple[tuple[UUID, int], ...]:
    visible = Collection.objects.visible_to(reader)
    rows = visible.shared_with(reader) if ids is None else visible.filter(pk__in=ids)
    return tuple(rows.order_by("pk").values_list("pk", "version"))
