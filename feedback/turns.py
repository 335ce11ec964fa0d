"""The turns that led to an answer: what a curator reads, and what a row to train on begins with.

Only these are read: what else was said in the conversation, in other branches or later, stays out of sight.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from inference.models import Message
from inference.thread import branch_to

_ROLES = ("system", "user", "assistant")
Turn = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}."""


def branch_of(answer: Message, rows: QuerySet[Message] | None = None) -> list[Message]:
    """The messages from the first one down to `answer`, as `branches_of`."""
    return branches_of([answer], rows)[answer.pk]


def branches_of(
    answers: Iterable[Message], rows: QuerySet[Message] | None = None
) -> dict[UUID, list[Message]]:
    """For each of `answers` the messages from the first one down to it, by the answer's id.

    Two queries, however many there are. `rows` says how the messages are read, if not bare.
    """
    wanted = [answer.pk for answer in answers]
    frames = Message.objects.filter(conversation__in={answer.conversation_id for answer in answers})
    known = list(frames.only("id", "parent_id"))
    ids = {pk: [message.pk for message in branch_to(known, pk)] for pk in wanted}
    rows = Message.objects.all() if rows is None else rows
    by_id = rows.in_bulk({pk for branch in ids.values() for pk in branch})
    return {pk: [by_id[one] for one in branch if one in by_id] for pk, branch in ids.items()}


def prompt_of(preface: Sequence[dict[str, Any]], branch: Sequence[Message]) -> list[Turn]:
    """The turns before the last one of `branch`, after those that a program sent along.

    Calls of tools, and what tools said, are left out: they are no text of anybody's. So are answers that
    never came; turns of one role that then stand together are joined, as they are where a model is asked.
    """
    sent = [(turn["role"], turn["content"]) for turn in preface if turn["role"] in _ROLES]
    turns: list[Turn] = []
    for role, content in [*sent, *((message.role, message.content) for message in branch[:-1])]:
        if content and turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{content}"
        elif content:
            turns.append({"role": role, "content": content})
    return turns
