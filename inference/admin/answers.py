"""What was asked and answered: shown without its words."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from accounts.admin import HistoryAdmin
from accounts.audit import record
from accounts.authentication import user_of
from accounts.models.audit import AuditKind
from inference.models import Conversation, Generation


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("Why you have to read it"),
        min_length=10,
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("At least 10 characters. It stays in the audit log for good, so name nobody in it."),
    )


@admin.register(Conversation)
class ConversationAdmin(HistoryAdmin):
    """Whose, when and with which model. What was said takes a permission of its own, and a reason."""

    list_display = ("id", "owner", "model", "created_at", "updated_at")
    list_select_related = ("owner",)
    search_fields = ("=id", "owner__username")
    fields = ("id", "owner", "model", "is_listed", "created_at", "updated_at")
    view_on_site = False

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


@admin.register(Generation)
class GenerationAdmin(HistoryAdmin):
    """How answers were asked for and ended. Stop strings, calls of tools and the like are words of their
    owner: not shown."""

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
    list_filter = ("status", "provider", "door")
    search_fields = ("=id", "=request_id", "user__username", "model_alias", "adapter")
    exclude = ("message", "delta_lengths", "parameters", "error_data", "tool_calls")
