"""What was asked and answered: shown without its words."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, HistoryAdmin, PrivateAdmin
from accounts.admin.private import ReasonForm, as_text
from accounts.audit import record
from accounts.authentication import user_of
from accounts.models.audit import AuditKind
from inference.models import AnswerSource, Conversation, Generation, Message
from inference.providers import provider_names


@admin.register(Conversation)
class ConversationAdmin(FoundByIndex, HistoryAdmin):
    """Whose, when and with which model. What was said takes a permission of its own, and a reason."""

    list_display = ("id", "owner", "model", "created_at", "updated_at")
    list_select_related = ("owner",)
    list_filter = ("is_listed", ("created_at", admin.DateFieldListFilter))
    search_fields = ("pk", "owner__username")
    search_help_text = _("A username, or an id")
    fields = ("id", "owner", "model", "is_listed", "created_at", "updated_at")
    view_on_site = False
    # Ids begin with the time, so this is the order of time, by an index.
    ordering = ("-pk",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return super().get_queryset(request).defer("title", "preface")

    def get_urls(self) -> list[URLPattern]:
        read = self.admin_site.admin_view(self.read_view)
        return [
            path("<path:object_id>/read/", read, name="inference_conversation_read"),
            *super().get_urls(),
        ]

    def read_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks for a reason, writes it down, and shows the messages in that one answer."""
        if not request.user.has_perm("inference.read_others_conversations"):
            raise PermissionDenied
        conversation = self.get_object(request, unquote(object_id))
        if conversation is None:
            raise Http404
        form = ReasonForm(request.POST or None)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Read a conversation"),
            "object": conversation,
            "form": form,
            "messages_of_conversation": None,
        }
        if request.method == "POST" and form.is_valid():
            context["messages_of_conversation"] = _read(request, conversation, form.cleaned_data["reason"])
            context["preface"] = as_text(conversation.preface) if conversation.preface else ""
        return TemplateResponse(request, "admin/inference/conversation/read.html", context)


@transaction.atomic
def _read(request: HttpRequest, conversation: Conversation, reason: str) -> list[Any]:
    """The messages, which nobody sees without the event that says so."""
    record(
        AuditKind.CHAT_READ,
        subject=conversation.owner,
        actor=user_of(request),
        conversation=str(conversation.pk),
        reason=reason,
    )
    return list(conversation.messages.order_by("created_at", "id"))


@admin.register(Message)
class MessageAdmin(FoundByIndex, PrivateAdmin):
    """One turn of a conversation; what it says is hidden."""

    private = ("content",)
    deferred = ("conversation__title", "conversation__preface")
    owner = "conversation.owner"
    list_display = ("id", "conversation_id", "author", "role", "created_at")
    list_select_related = ("conversation__owner",)
    list_filter = ("role",)
    search_fields = ("pk", "conversation", "conversation__owner__username")
    search_help_text = _("A username, or the id of a message or of its conversation")
    fields = readonly_fields = ("id", "conversation", "parent_id", "author", "role", "created_at")
    ordering = ("-pk",)
    sortable_by = ()

    @admin.display(description=_("owner"))
    def author(self, message: Message) -> str:
        return message.conversation.owner.get_username()


class ProviderFilter(admin.SimpleListFilter):
    """By the providers there are. Django would look for theirs in every row."""

    title = _("provider")
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in provider_names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(provider=self.value()) if self.value() else queryset


@admin.register(Generation)
class GenerationAdmin(FoundByIndex, PrivateAdmin):
    """How answers were asked for and ended. Stop strings, calls of tools and the like are words of their
    owner: hidden, as the answer itself is."""

    private = ("parameters", "labels", "error_data", "tool_calls")
    deferred = ("delta_lengths",)
    owner = "user"
    list_display = (
        "created_at",
        "user",
        "model_alias",
        "status",
        "cache",
        "input_tokens",
        "output_tokens",
        "latency_ms",
    )
    list_select_related = ("user",)
    list_filter = ("status", ProviderFilter, ("created_at", admin.DateFieldListFilter))
    search_fields = ("pk", "message", "request_id", "user__username", "adapter")
    search_help_text = _("A username, an adapter, or the id of an answer, its message or its request")
    exclude = ("message", "delta_lengths")
    ordering = ("-pk",)
    sortable_by = ()


@admin.register(AnswerSource)
class AnswerSourceAdmin(FoundByIndex, PrivateAdmin):
    """Which passages of documents an answer was given. What they say is hidden."""

    private = ("title", "text")
    owner = "generation.user"
    list_display = ("id", "generation_id", "number", "document", "page", "score")
    list_select_related = False
    search_fields = ("generation", "document")
    search_help_text = _("The id of an answer or of a document")
    fields = readonly_fields = (
        "generation_id",
        "number",
        "document",
        "version",
        "collection",
        "page",
        "start",
        "end",
        "score",
    )
    ordering = ("-pk",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[AnswerSource]:
        # Without the question whether its reader may see it, which no page here asks.
        return AnswerSource._base_manager.defer(*self.private).order_by("-pk")
