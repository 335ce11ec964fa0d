"""Adapters of the local model, and which engine processes have them, as the processes tell."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, HistoryAdmin
from inference.models import Adapter, AdapterLoad, EngineProcess


@admin.register(Adapter)
class AdapterAdmin(FoundByIndex, HistoryAdmin):
    list_display = ("name", "base_model", "run", "created_at", "withdrawn_at", "withdrawn_because")
    list_filter = ("base_model", ("withdrawn_at", admin.EmptyFieldListFilter))
    search_fields = ("pk", "name", "run")
    search_help_text = _("A name, or the id of the adapter or of its run")
    fields = (
        "id",
        "name",
        "sha256",
        "base_model",
        "base_sha256",
        "run",
        "created_at",
        "withdrawn_at",
        "withdrawn_because",
    )
    date_hierarchy = "created_at"


@admin.register(EngineProcess)
class EngineProcessAdmin(HistoryAdmin):
    list_display = ("id", "base_model", "seen_at")
    fields = ("id", "base_model", "seen_at")
    ordering = ("-seen_at", "pk")


@admin.register(AdapterLoad)
class AdapterLoadAdmin(FoundByIndex, HistoryAdmin):
    list_display = ("adapter", "process", "state", "error", "told_at")
    list_select_related = ("adapter", "process")
    list_filter = ("state",)
    search_fields = ("adapter__name", "process")
    search_help_text = _("The name of an adapter, or the id of a process")
    fields = ("id", "adapter", "process", "state", "error", "told_at")
    ordering = ("-told_at", "pk")
