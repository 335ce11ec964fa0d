"""From what was asked to what goes upstream: everything about a question that writes no row.

What can be refused without a provider is refused here, or where it is stored (`inference.admission`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils.translation import gettext as _

from inference.ask import Ask, NewestLeaf
from inference.cache.key import Keyring, Readers
from inference.cache.levels import CachedHit, Lookup
from inference.cache.word_gate import depends_on_the_moment, depends_on_the_person
from inference.catalogue import Snapshot, catalogue
from inference.context import Fitted, fit, shape_tokens, surely_fits
from inference.grounding.grounds import Grounds
from inference.grounding.prompt import rules, with_passages
from inference.grounding.shelf import Shelf, shelf_of
from inference.live import live_answers
from inference.models import ChatModelConfig, Conversation, Message, Role, Version, access_conversation
from inference.models.chat_models import CacheScope
from inference.preface import turns_of
from inference.providers import address_of, get_provider, ready_provider
from inference.providers.base import (
    TOOL_PARAMETERS,
    ChatMessage,
    ChatProvider,
    ChatRequest,
    estimate_tokens,
)
from inference.recent_questions import RecentQuestions
from inference.thread import branch_to
from inference.verified import find, said_in
from llmsite.core.errors import (
    ContextLengthExceeded,
    InvalidInput,
    ModelNotAllowed,
    NotFound,
    ProviderFailure,
    ServerRestarting,
    UnsupportedParameter,
)

REGENERATE_TEMPERATURE = 0.7
MOST_SEMANTIC_TEMPERATURE = 0.3
"""Above, somebody wants variety, which other people's words would take away."""
READ_CHARACTERS = 4000
_MUST_BE_TAKEN = TOOL_PARAMETERS | {"response_format"}

_CANNOT_TAKE_IT = (ContextLengthExceeded, ModelNotAllowed, ProviderFailure, UnsupportedParameter)

_keyring = Keyring(settings.CACHE_KEY)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the question stands: below which message, in which conversation, after which turns."""

    conversation: Conversation | None = None
    parent: Message | None = None
    branch: Sequence[Message] = ()


@dataclass(slots=True)
class Question:
    """One question to one model, ready to be sent. Once `prepare` has given it out, it is only read."""

    ask: Ask
    model: ChatModelConfig
    provider: ChatProvider
    request: ChatRequest
    place: Place
    dropped_parameters: Sequence[str]
    context_trimmed: bool
    fallbacks: Sequence[ChatModelConfig] = ()
    lookup: Lookup | None = None
    """None where the answer is not to be kept."""
    shelf: Shelf | None = None
    """What it is to be answered from, where that is documents."""
    grounds: Grounds | None = None
    """What was found there; None until somebody has looked."""
    written: Sequence[str] = ()
    """The pieces of the answer, where the passages themselves answer, or none do, and no model is asked."""
    verified: UUID | None = None
    """The answer that a curator has verified, where there is one (inference.verified)."""
    began: float = field(default_factory=time.monotonic)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the model is asked with, for the record."""
        names = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "max_tokens")
        values = {name: getattr(self.request, name) for name in names}
        values["stop"] = list(self.request.stop) or None
        return {name: value for name, value in values.items() if value is not None}


_recent: RecentQuestions[Question] = RecentQuestions()


async def prepare(ask: Ask) -> Question:
    """Check and choose.

    Raises NotFound (conversation, parent, answer or collection), ModelNotFound, ModelNotAllowed, NotAllowed,
    InvalidInput, UnsupportedParameter, ContextLengthExceeded, ProviderNotConfigured where the provider has no
    key, and ServerRestarting.
    """
    refuse_while_draining()
    models = await catalogue.current()
    known = _recent.find(ask, models)
    if known is not None:
        return replace(known, ask=ask, began=time.monotonic())
    question = await _prepare(ask, models)
    _recent.keep(ask, models, question)
    return question


async def _prepare(ask: Ask, models: Snapshot) -> Question:
    place = await sync_to_async(_find_place)(ask) if ask.conversation else Place()
    model = _choose(ask, models, place)
    shelf = await shelf_of(ask) if ask.grounding else None
    question = await put_to(model, ask, place)
    question.shelf = shelf
    question.fallbacks = models.fallbacks(model)
    question.verified = find(ask, _said(ask, place), models.verified)
    if _may_be_kept(question):
        question.lookup = _lookup(question, epoch=models.version(Version.CACHE))
    return question


async def put_to(model: ChatModelConfig, ask: Ask, place: Place, grounds: Grounds | None = None) -> Question:
    """The question as it is put to `model`, with the passages of `grounds`. Raises what `prepare` raises."""
    if ask.api_key is not None and not ask.api_key.allows_model(model.alias):
        raise ModelNotAllowed(model=model.alias)
    provider = await provider_of(model)
    parameters, dropped = _parameters(ask, model, provider)
    messages = _messages(ask, model, place)
    if grounds is not None and ask.grounding is not None:
        messages = with_passages(messages, grounds.sources, ask.grounding.detail)
    fitted = await _fit(messages, ask, model, provider)
    request = ChatRequest(
        model=model.upstream_model,
        messages=fitted.messages,
        max_tokens=fitted.max_tokens,
        **parameters,
    )
    return Question(ask, model, provider, request, place, dropped, fitted.trimmed, grounds=grounds)


def answered_by(hit: CachedHit, question: Question) -> Question:
    """The question, which stands on what the cached answer does."""
    return question if hit.answer.grounds is None else replace(question, grounds=hit.answer.grounds)


async def others(question: Question) -> AsyncIterator[Question]:
    """The same question as it is put to each fallback that can take it."""
    for model in question.fallbacks:
        try:
            yield await put_to(model, question.ask, question.place, question.grounds)
        except _CANNOT_TAKE_IT:
            continue


async def provider_of(model: ChatModelConfig) -> ChatProvider:
    """Who serves `model`. The first use of a provider imports its module, in a thread."""
    provider = ready_provider(model.provider, model.base_url)
    if provider is None:
        provider = await asyncio.to_thread(get_provider, model.provider, model.base_url)
    return provider


def refuse_while_draining() -> None:
    if live_answers.is_draining:
        raise ServerRestarting


# --- Where it stands, and who is asked -----------------------------------------------------------


def _find_place(ask: Ask) -> Place:
    assert ask.conversation is not None
    conversation = access_conversation(ask.user, ask.conversation)
    messages = list(conversation.messages.order_by("created_at", "id"))
    if ask.regenerate is not None:
        answer = _find(messages, ask.regenerate, Role.ASSISTANT)
        branch = branch_to(messages, answer.parent_id)
    elif isinstance(ask.parent, NewestLeaf):
        branch = branch_to(messages, messages[-1].id if messages else None)
    else:
        branch = branch_to(messages, ask.parent and _find(messages, ask.parent, Role.ASSISTANT).id)
    return Place(conversation, branch[-1] if branch else None, branch)


def _find(messages: list[Message], wanted: UUID, role: Role) -> Message:
    for message in messages:
        if message.id == wanted:
            if message.role != role:
                raise InvalidInput(
                    field="parent", reason=_("A question follows an answer, and an answer a question.")
                )
            return message
    raise NotFound


def _choose(ask: Ask, models: Snapshot, place: Place) -> ChatModelConfig:
    alias = ask.model
    if alias is None and ask.provider is None and place.conversation is not None:
        # One that is no longer there gives way to the default.
        alias = place.conversation.model if place.conversation.model in models.by_alias else None
    return models.named(alias, provider=ask.provider)


# --- What goes upstream --------------------------------------------------------------------------


def _parameters(ask: Ask, model: ChatModelConfig, provider: ChatProvider) -> tuple[dict[str, Any], list[str]]:
    """The parameters that go upstream, and the names of those that the model does not take."""
    taken = provider.parameters - set(model.refused_parameters)
    shape = ask.shape.given()
    if refused := sorted(set(shape) & _MUST_BE_TAKEN - taken):
        raise UnsupportedParameter(field=refused[0], model=model.alias)
    if "tools" not in taken and not all(map(_is_plain, ask.history)):
        # Its turns would be sent without what they are about.
        raise UnsupportedParameter(field="messages", model=model.alias)
    wanted = ask.sampling.given()
    defaults = {name: value for name, value in model.parameters.items() if name not in wanted}
    if ask.regenerate is not None and provider.is_greedy:
        # Somebody who asks again wants another answer, which a greedy model would never give.
        defaults.setdefault("temperature", REGENERATE_TEMPERATURE)
    given = {name: value for name, value in (defaults | wanted).items() if name in taken}
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    # What a row asks for and its provider does not take is not the caller's doing, and not told to them.
    return given | shape, sorted(set(wanted) - taken)


def _messages(ask: Ask, model: ChatModelConfig, place: Place) -> list[ChatMessage]:
    """The prompt: the system prompt, the turns before, and the question."""
    said = _said(ask, place)
    has_system = ask.system is not None or any(turn.role == "system" for turn in said)
    if model.system_prompt and not has_system:
        said.insert(0, ChatMessage("system", model.system_prompt))
    return _merge_neighbours(said)


def _said(ask: Ask, place: Place) -> list[ChatMessage]:
    """What was said up to the question, and the system prompt that was asked for: all but the model's own."""
    older = [*(turns_of(place.conversation.preface) if place.conversation else ()), *ask.history]
    if ask.system is not None:
        system = [ChatMessage("system", ask.system)] if ask.system else []
        older = [*system, *(turn for turn in older if turn.role != "system")]
    said = [*older, *said_in(place.branch)]
    if ask.regenerate is None and ask.prompt:
        said.append(ChatMessage("user", ask.prompt))
    return said


def _merge_neighbours(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Join turns of one role that stand together: providers want roles to alternate."""
    merged: list[ChatMessage] = []
    for message in messages:
        before = merged[-1] if merged else None
        if before is not None and before.role == message.role and _is_plain(before) and _is_plain(message):
            merged[-1] = ChatMessage(message.role, f"{before.content}\n\n{message.content}")
        else:
            merged.append(message)
    return merged


def _is_plain(message: ChatMessage) -> bool:
    return message.role != "tool" and not message.tool_calls


async def _fit(
    messages: list[ChatMessage], ask: Ask, model: ChatModelConfig, provider: ChatProvider
) -> Fitted:
    wanted = ask.sampling.max_tokens or model.max_tokens
    room = {"window": max(1, model.context_window - shape_tokens(ask.shape.given())), "max_tokens": wanted}
    if surely_fits(messages, **room):
        return Fitted(tuple(messages), trimmed=False, max_tokens=wanted)
    try:
        counts = await provider.count_tokens(model.upstream_model, messages)
    except ProviderFailure as failure:
        # The server that would count is away, so that another model may have to answer. An estimate is no
        # reason to call a prompt too long.
        with suppress(ContextLengthExceeded):
            return fit(messages, estimate_tokens(messages), **room)
        raise failure
    return fit(messages, counts, **room)


# --- Where its answer is kept --------------------------------------------------------------------


def _may_be_kept(question: Question) -> bool:
    ask = question.ask
    is_plain = ask.regenerate is None and not ask.shape.tools
    return ask.may_be_kept and is_plain and question.model.cache_scope != CacheScope.NOBODY


def without_lookup_of_the_moment(question: Question) -> Question:
    """The question, to be answered anew where its answer will be another one tomorrow, or for somebody else.

    Reading the words takes longer than finding an answer, so this is asked only where none is at hand; none
    was ever kept for such a question.
    """
    if question.lookup is None:
        return question
    words = "\n".join(_both_ends(turn.content) for turn in question.request.messages if turn.role == "user")
    is_shared = question.model.cache_scope == CacheScope.SITE
    if depends_on_the_moment(words) or (is_shared and depends_on_the_person(words)):
        return replace(question, lookup=None)
    return question


def _both_ends(text: str) -> str:
    """Of a long text its first and last words, where a question stands: reading all would take long."""
    return (
        text if len(text) <= 2 * READ_CHARACTERS else f"{text[:READ_CHARACTERS]}\n{text[-READ_CHARACTERS:]}"
    )


def _lookup(question: Question, *, epoch: int) -> Lookup:
    ask, model, request = question.ask, question.model, question.request
    readers = _readers(question)
    terms: dict[str, Any] = {
        "epoch": epoch,
        "provider": model.provider,
        "address": address_of(model.provider, model.base_url),
        "revision": model.revision,
        "choice": ask.choice,
    }
    if ask.grounding is not None and question.shelf is not None:
        # The request is the one without passages: what is found depends on these, and on the question.
        terms["documents"] = [question.shelf.terms, rules(ask.grounding.detail), ask.grounding.language]
    key = _keyring.exact(readers, request, terms, of_documents=question.shelf is not None)
    lookup = Lookup(model=model.alias, key=key, shelf=question.shelf)
    if not _words_may_differ(question):
        return lookup
    return replace(lookup, partition=_keyring.partition(readers, request, terms), question=ask.prompt)


def _readers(question: Question) -> Readers:
    """Who shares the answer: everybody only where it owes nothing to words of the person's own."""
    ask = question.ask
    is_bare = ask.system is None and not ask.history and question.place.conversation is None
    # What is found in documents depends on who may read them.
    is_bare = is_bare and ask.grounding is None
    if question.model.cache_scope == CacheScope.SITE and is_bare:
        return Readers(kind="site")
    return Readers(kind="user", name=ask.user.pseudonym.hex)


def _words_may_differ(question: Question) -> bool:
    if not (settings.SEMANTIC_CACHE and question.model.semantic_cache):
        return False
    turns = [message for message in question.request.messages if message.role != "system"]
    # The one turn has to be the question alone: others that stood beside it are joined to it.
    is_single = len(turns) == 1 and turns[0].content == question.ask.prompt
    temperature = question.request.temperature
    return is_single and (temperature is None or temperature <= MOST_SEMANTIC_TEMPERATURE)


def cache_tag(user: Any) -> str:
    """By which everything that is kept for `user` alone begins."""
    return _keyring.tag(Readers(kind="user", name=user.pseudonym.hex))
