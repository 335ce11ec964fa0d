from django import forms
from django.contrib import admin

from accounts.admin import HistoryAdmin
from inference.models import ChatModelConfig, Conversation, Generation
from inference.providers import provider_names


class ChatModelConfigForm(forms.ModelForm):
    provider = forms.ChoiceField(choices=lambda: [(name, name) for name in provider_names()])


@admin.register(ChatModelConfig)
class ChatModelConfigAdmin(admin.ModelAdmin):
    form = ChatModelConfigForm
    list_display = (
        "alias",
        "label",
        "provider",
        "provider_model",
        "context_window",
        "is_default",
        "is_active",
    )
    list_filter = ("provider", "is_active")
    search_fields = ("alias", "label", "provider_model")


@admin.register(Conversation)
class ConversationAdmin(HistoryAdmin):
    """Whose, when and with which model; what was said is not shown here."""

    list_display = ("id", "owner", "model", "created_at", "updated_at")
    list_select_related = ("owner",)
    search_fields = ("=id", "owner__username")
    fields = ("id", "owner", "model", "is_listed", "created_at", "updated_at")


@admin.register(Generation)
class GenerationAdmin(HistoryAdmin):
    list_display = (
        "created_at",
        "user",
        "model_alias",
        "status",
        "input_tokens",
        "output_tokens",
        "latency_ms",
    )
    list_select_related = ("user",)
    list_filter = ("status", "provider", "door")
    search_fields = ("=id", "=request_id", "user__username", "model_alias")
    exclude = ("message", "delta_lengths")
