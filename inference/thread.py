"""Branches of a conversation: which messages stand before one, and which branch is shown."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from inference.models import Message


def branch_to(messages: Iterable[Message], leaf: UUID | None) -> list[Message]:
    """The messages from the first one down to `leaf`; empty for None or an unknown id."""
    by_id = {message.id: message for message in messages}
    branch: list[Message] = []
    current = by_id.get(leaf) if leaf else None
    while current is not None:
        branch.append(current)
        current = by_id.get(current.parent_id) if current.parent_id else None
    return branch[::-1]


def shown_branch(messages: list[Message], at: UUID | None = None) -> list[Message]:
    """The branch through `at` and on to its newest leaf; without `at`, the one written to last.

    `messages` stand in the order they were written. Each message of the branch gets `siblings`:
    the ids of all messages with its parent, itself among them.
    """
    children: dict[UUID | None, list[Message]] = defaultdict(list)
    for message in messages:
        children[message.parent_id].append(message)
    branch = branch_to(messages, at)
    if not branch:
        return _with_siblings(branch_to(messages, messages[-1].id if messages else None), children)
    while below := children.get(branch[-1].id):
        branch.append(below[-1])
    return _with_siblings(branch, children)


def _with_siblings(branch: list[Message], children: dict[UUID | None, list[Message]]) -> list[Message]:
    for message in branch:
        message.siblings = [sibling.id for sibling in children[message.parent_id]]  # type: ignore[attr-defined]
    return branch
