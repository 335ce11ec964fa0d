"""The way in: from a question to the rows and the upstream request of one answer.

Everything that can be refused without a provider is refused here, before a row is written; from
then on what the user wrote is kept, whatever happens to the answer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.ledger import reserve
from inference.ask import Ask, NewestLeaf
from inference.context import Fitted, fit, most_tokens, surely_fits
from inference.live import live_answers
from inference.models import (
    TITLE_LENGTH,
    ChatModelConfig,
    Conversation,
    Generation,
    Message,
    Role,
    access_conversation,
)
from inference.providers import get_provider
from inference.providers.base import ChatMessage, ChatProvider, ChatRequest, estimate_tokens
from inference.thread import branch_to
from llmsite.core.errors import InvalidInput, ModelNotAllowed, NotFound, ServerRestarting

REGENERATE_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True)
class Turn:
    """One admitted question: its rows, and what goes upstream."""

    model: ChatModelConfig
    provider: ChatProvider
    request: ChatRequest
    generation: Generation
    conversation: Conversation
    user_message: Message | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the question stands: below which message, in which conversation, after which turns."""

    conversation: Conversation | None
    parent: Message | None
    branch: list[Message]


async def admit(ask: Ask) -> Turn:
    """Check, choose and store.

    Raises NotFound (conversation, parent or answer), ModelNotFound, ModelNotAllowed, InvalidInput,
    ContextLengthExceeded, BudgetExhausted, ProviderNotConfigured where the provider has no key, and
    ServerRestarting.
    """
    _refuse_while_draining()
    model, provider, place = await database_sync_to_async(_look_up)(ask)
    messages = _messages(ask, model, place)
    fitted = await _fit(messages, ask, model, provider)
    parameters, dropped = _parameters(ask, model, provider)
    generation = Generation(
        user=ask.user,
        api_key=ask.api_key,
        door=ask.door,
        request_id=ask.request_id,
        model_alias=model.alias,
        provider=model.provider,
        parameters={**parameters, "max_tokens": fitted.max_tokens},
        dropped_parameters=dropped,
        context_trimmed=fitted.trimmed,
    )
    _refuse_while_draining()
    conversation, user_message = await database_sync_to_async(_store)(ask, model, place, fitted, generation)
    request = _upstream_request(ask, model, fitted, parameters)
    return Turn(model, provider, request, generation, conversation, user_message)


def _parameters(ask: Ask, model: ChatModelConfig, provider: ChatProvider) -> tuple[dict[str, Any], list[str]]:
    """The sampling parameters that go upstream, and the names of those that the model does not take."""
    given = ask.sampling.given()
    given.pop("max_tokens", None)
    if ask.regenerate is not None and provider.is_greedy:
        # Somebody who asks again wants another answer, which a greedy model would never give.
        given.setdefault("temperature", REGENERATE_TEMPERATURE)
    taken = provider.parameters - set(model.refused_parameters)
    dropped = sorted(set(given) - taken)
    return {name: value for name, value in given.items() if name not in dropped}, dropped


def _look_up(ask: Ask) -> tuple[ChatModelConfig, ChatProvider, _Place]:
    rows = ChatModelConfig.objects.active()
    conversation = access_conversation(ask.user, ask.conversation) if ask.conversation else None
    alias = ask.model
    if alias is None and ask.provider is None and conversation is not None:
        # One that is no longer there gives way to the default.
        alias = conversation.model if rows.filter(alias=conversation.model).exists() else None
    model = ChatModelConfig.objects.named(alias, provider=ask.provider)
    if ask.api_key is not None and not ask.api_key.allows_model(model.alias):
        raise ModelNotAllowed(model=model.alias)
    # Here, in a thread: the first use of a provider imports its module.
    return model, get_provider(model.provider), _place(ask, conversation)


def _place(ask: Ask, conversation: Conversation | None) -> _Place:
    if conversation is None:
        return _Place(None, None, [])
    messages = list(conversation.messages.order_by("created_at", "id"))
    if ask.regenerate is not None:
        answer = _find(messages, ask.regenerate, Role.ASSISTANT)
        branch = branch_to(messages, answer.parent_id)
    elif isinstance(ask.parent, NewestLeaf):
        branch = branch_to(messages, messages[-1].id if messages else None)
    else:
        branch = branch_to(messages, ask.parent and _find(messages, ask.parent, Role.ASSISTANT).id)
    return _Place(conversation, branch[-1] if branch else None, branch)


def _find(messages: list[Message], wanted: UUID, role: Role) -> Message:
    for message in messages:
        if message.id == wanted:
            if message.role != role:
                raise InvalidInput(
                    field="parent", reason=_("A question follows an answer, and an answer a question.")
                )
            return message
    raise NotFound


def _messages(ask: Ask, model: ChatModelConfig, place: _Place) -> list[ChatMessage]:
    """The prompt: the system prompt, the turns before, and the question."""
    system = ask.system if ask.system is not None else model.system_prompt
    messages = [ChatMessage("system", system)] if system else []
    # An answer that failed before its first piece is empty; nothing can be learned from it.
    messages += [ChatMessage(m.role, m.content) for m in place.branch if m.content]  # type: ignore[arg-type]
    if ask.regenerate is None:
        messages.append(ChatMessage("user", ask.prompt))
    return _merge_neighbours(messages)


def _merge_neighbours(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Join turns of one role that stand together: providers want roles to alternate."""
    merged: list[ChatMessage] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            message = ChatMessage(message.role, f"{merged.pop().content}\n\n{message.content}")
        merged.append(message)
    return merged


async def _fit(
    messages: list[ChatMessage], ask: Ask, model: ChatModelConfig, provider: ChatProvider
) -> Fitted:
    wanted = ask.sampling.max_tokens or model.max_tokens
    if surely_fits(messages, window=model.context_window, max_tokens=wanted):
        return Fitted(tuple(messages), trimmed=False, max_tokens=wanted)
    counts = await provider.count_tokens(model.provider_model, messages)
    return fit(messages, counts, window=model.context_window, max_tokens=wanted)


def _refuse_while_draining() -> None:
    if live_answers.is_draining:
        raise ServerRestarting


@transaction.atomic
def _store(
    ask: Ask, model: ChatModelConfig, place: _Place, fitted: Fitted, generation: Generation
) -> tuple[Conversation, Message | None]:
    now = timezone.now()
    conversation = _touched_conversation(ask, model, place, now)
    user_message = None
    parent = place.parent
    if ask.regenerate is None:
        parent = user_message = Message.objects.create(
            conversation=conversation, parent=place.parent, role=Role.USER, content=ask.prompt, created_at=now
        )
    generation.message = Message.objects.create(conversation=conversation, parent=parent, role=Role.ASSISTANT)
    generation.save(force_insert=True)
    _reserve(ask, model, fitted, generation)
    return conversation, user_message


def _reserve(ask: Ask, model: ChatModelConfig, fitted: Fitted, generation: Generation) -> None:
    reserve(
        generation.pk,
        payer=ask.user,
        api_key=ask.api_key,
        model=model.alias,
        provider=model.provider,
        input_price=model.input_price,
        output_price=model.output_price,
        input_tokens=sum(estimate_tokens(fitted.messages)),
        input_tokens_at_most=most_tokens(fitted.messages),
        output_tokens_at_most=fitted.max_tokens,
    )


def _touched_conversation(ask: Ask, model: ChatModelConfig, place: _Place, now: datetime) -> Conversation:
    """The conversation, new or as it is by now: it may have been renamed or deleted meanwhile."""
    title = _title(ask.prompt)
    if place.conversation is None:
        return Conversation.objects.create(
            owner=ask.user, model=model.alias, title=title, is_listed=ask.listed, updated_at=now
        )
    rows = Conversation.objects.filter(pk=place.conversation.pk)
    if not rows.update(model=model.alias, updated_at=now):
        raise NotFound
    rows.filter(title="").update(title=title)
    return rows.get()


def _title(prompt: str) -> str:
    """The first line of the first question, shortened at a word."""
    words = " ".join(prompt.split("\n", 1)[0].split())
    if len(words) <= TITLE_LENGTH:
        return words
    return words[: TITLE_LENGTH - 1].rsplit(" ", 1)[0] + "…"


def _upstream_request(
    ask: Ask, model: ChatModelConfig, fitted: Fitted, parameters: dict[str, Any]
) -> ChatRequest:
    return ChatRequest(
        model=model.provider_model,
        messages=fitted.messages,
        max_tokens=fitted.max_tokens,
        request_id=ask.request_id or None,
        **{**parameters, "stop": tuple(parameters.get("stop", ()))},
    )
