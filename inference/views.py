"""The chat pages. They work as plain forms; the page's script makes them live."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.authentication import user_of
from accounts.models import User
from embeddings.models import Collection
from inference import generations
from inference.ask import Ask
from inference.models import TITLE_LENGTH, ChatModelConfig, Conversation, Message, access_conversation
from inference.serializers import read_ask
from inference.thread import shown_branch
from llmsite.core.errors import InvalidInput, NotFound, SiteError, describe
from llmsite.core.rest import as_site_error

CONVERSATIONS_SHOWN = 50


@require_GET
@login_required
def home(request: HttpRequest) -> HttpResponse:
    return redirect("chat")


@require_http_methods(["GET", "POST"])
async def chat(request: HttpRequest, pk: UUID | None = None) -> HttpResponse:
    """A new or an existing conversation; POST is the composer without its script."""
    user = await request.auser()
    if not isinstance(user, User):
        return redirect_to_login(request.get_full_path())
    if request.method == "POST":
        return await _ask(request, user, pk)
    return await sync_to_async(_chat_page)(request, user, pk)


async def _ask(request: HttpRequest, user: User, pk: UUID | None) -> HttpResponse:
    prompt = request.POST.get("prompt", "")
    try:
        turn = await generations.start(_read_ask(request, user, pk, prompt))
    except Exception as error:
        refusal = as_site_error(error)
        if not isinstance(refusal, SiteError) or isinstance(refusal, NotFound):
            raise
        public = describe(refusal)
        draft = {"error": public.message, "draft": prompt}
        return await sync_to_async(_chat_page)(request, user, pk, status=public.status, **draft)
    return redirect(turn.conversation)


def _read_ask(request: HttpRequest, user: User, pk: UUID | None, prompt: str) -> Ask:
    chosen = {name: request.POST.get(name) or None for name in ("model", "collection")}
    given = {"prompt": prompt, "conversation": pk, **chosen}
    data = {name: value for name, value in given.items() if value is not None}
    return read_ask(data, user, door="page", listed=True)


def _chat_page(
    request: HttpRequest, user: User, pk: UUID | None, *, status: int = 200, **extra: Any
) -> HttpResponse:
    conversation = access_conversation(user, pk) if pk else None
    models = sorted(ChatModelConfig.objects.active(), key=lambda model: not model.is_available)
    conversations, older = _conversations(request, user)
    collections = list(Collection.objects.visible_to(user))
    thread = _thread(conversation, request.GET.get("at"))
    selected_collection = _selected_collection(request, thread)
    is_lost = selected_collection is not None and selected_collection not in {one.pk for one in collections}
    context = {
        "conversation": conversation,
        "conversations": conversations,
        "next_conversations": older,
        "thread": thread,
        "models": models,
        "selected_model": _selected_model(conversation, models),
        "collections": collections,
        "selected_collection": selected_collection,
        "collection_is_lost": is_lost,
        "max_prompt_characters": settings.MAX_PROMPT_CHARACTERS,
        "title_length": TITLE_LENGTH,
        **extra,
    }
    return render(request, "inference/chat.html", context, status=status)


def _conversations(request: HttpRequest, user: User) -> tuple[list[Conversation], str | None]:
    """A page of the user's conversations, newest first, and the address of the next one."""
    rows = Conversation.objects.visible_to(user).listed().order_by("-updated_at", "id")
    if before := _uuid(request.GET.get("before")):
        rows = rows.older_than(before)
    page = list(rows[: CONVERSATIONS_SHOWN + 1])
    if len(page) <= CONVERSATIONS_SHOWN:
        return page, None
    return page[:-1], f"{request.path}?{urlencode({'before': page[-2].pk})}"


def _thread(conversation: Conversation | None, at: str | None) -> list[Message]:
    if conversation is None:
        return []
    messages = (
        conversation.messages.select_related("generation")
        .prefetch_related("generation__sources")
        .order_by("created_at", "id")
    )
    return shown_branch(list(messages), _uuid(at))


def _selected_model(conversation: Conversation | None, models: list[ChatModelConfig]) -> str:
    aliases = [model.alias for model in models]
    if conversation is not None and conversation.model in aliases:
        return conversation.model
    chosen = [model.alias for model in models if model.is_default]
    return (chosen or [settings.DEFAULT_MODEL])[0]


def _selected_collection(request: HttpRequest, thread: list[Message]) -> UUID | None:
    """The one that was sent or that the address names, else the one of the last answer."""
    if named := request.POST.get("collection") or request.GET.get("collection"):
        return _uuid(named)
    answers = [message.generation for message in thread if hasattr(message, "generation")]
    return answers[-1].collection if answers else None


def _uuid(raw: str | None) -> UUID | None:
    try:
        return UUID(raw) if raw else None
    except ValueError:
        return None


@require_POST
@login_required
def rename(request: HttpRequest, pk: UUID) -> HttpResponse:
    conversation = access_conversation(user_of(request), pk)
    title = " ".join(request.POST.get("title", "").split())
    if not title or len(title) > TITLE_LENGTH or "\x00" in title:
        reason = _("A title has 1 to %(limit)d characters.") % {"limit": TITLE_LENGTH}
        raise InvalidInput(field="title", reason=reason)
    conversation.title = title
    conversation.save(update_fields=["title"])
    return redirect(conversation)


@require_POST
@login_required
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    access_conversation(user_of(request), pk).delete()
    return redirect("chat")
