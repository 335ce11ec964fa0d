"""Which questions are the same: the keys of the cache.

A key is a digest of everything that goes upstream and of who may see the answer, made with a secret of this
site: nobody who reads the store learns a question from it, or can put an answer there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from inference.providers.base import ChatMessage, ChatRequest

Terms = Mapping[str, Any]
Turns = tuple[ChatMessage, ...]

_NOT_IN_KEY = frozenset({"messages", "request_id"})
"""The messages are written out by `_turn`; the id of a request changes nothing in its answer."""
OF_DOCUMENTS = ":documents:"
"""Stands in the names of answers that were made of documents."""
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_PARAMETERS = tuple(field.name for field in fields(ChatRequest) if field.name not in _NOT_IN_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Who shares an answer: `kind` is `user` or `site`, `name` the user's pseudonym or empty."""

    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Makes keys with one secret of 32 bytes."""

    secret: bytes

    @lru_cache(maxsize=4096)  # noqa: B019 - there is one keyring, as old as the process
    def tag(self, readers: Readers) -> str:
        """The first part of all keys of these readers, by which its answers can be found and erased."""
        return self._digest(["scope", readers.kind, readers.name])[:16]

    def exact(
        self, readers: Readers, request: ChatRequest, terms: Terms, *, of_documents: bool = False
    ) -> str:
        """The key of one request. `terms` is what else an answer depends on, such as versions.

        One whose answer is made `of_documents` can be told by its name, to be found when one is deleted.
        """
        kind = "documents" if of_documents else "exact"
        key = self._named(kind, readers, request, terms, request.messages)
        return key.replace(":", OF_DOCUMENTS, 1) if of_documents else key

    def partition(self, readers: Readers, request: ChatRequest, terms: Terms) -> str:
        """What requests share that differ in the words of their last question alone."""
        before = request.messages[:-1]
        return self._named("partition", readers, request, terms, before)

    def _named(self, kind: str, readers: Readers, request: ChatRequest, terms: Terms, turns: Turns) -> str:
        # Every parameter of a request is in its key, so one that is added later is there by itself.
        parameters = {name: getattr(request, name) for name in _PARAMETERS}
        whose = [kind, readers.kind, readers.name]
        return (
            f"{self.tag(readers)}:{self._digest([whose, terms, parameters, [_turn(turn) for turn in turns]])}"
        )

    def _digest(self, parts: list[Any]) -> str:
        # JSON keeps the parts apart: ("ab", "c") and ("a", "bc") are different texts.
        text = _ENCODER.encode(parts)
        data = text.encode("utf-8", "surrogatepass")
        # A keyed hash by design; HMAC would give other threads Python's lock each time.
        return hashlib.blake2b(data, key=self.secret, digest_size=32).hexdigest()


def _turn(turn: ChatMessage) -> list[Any]:
    calls = [[call.id, call.name, call.arguments] for call in turn.tool_calls]
    return [turn.role, turn.content, calls, turn.tool_call_id, turn.is_error]
