"""What all pages about documents have around them: the collections in the sidebar, a form for a new one."""

from typing import Any
from uuid import UUID

from accounts.models import User
from embeddings.models import Collection
from embeddings.pages.forms import CollectionForm
from embeddings.pages.listing import collections_of


def frame_of(
    user: User, collection: Collection | None, *, new_form: CollectionForm | None = None
) -> dict[str, Any]:
    """The context of the sidebar; `new_form` is one that was sent and not taken."""
    own, shared = collections_of(user)
    return {
        "own_collections": own,
        "shared_collections": shared,
        "collection": collection,
        "new_form": new_form or CollectionForm(user=user),
    }


def uuid_of(raw: str | None) -> UUID | None:
    try:
        return UUID(raw) if raw else None
    except ValueError:
        return None
