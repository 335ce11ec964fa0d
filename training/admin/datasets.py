"""Data sets and their versions: what they are and come from. Their rows are on the pages of the site."""

from django.contrib import admin

from accounts.admin.base import HistoryAdmin
from training.models import Dataset, DatasetVersion


@admin.register(Dataset)
class DatasetAdmin(HistoryAdmin):
    list_display = ("name", "created_by", "created_at")
    list_select_related = ("created_by",)
    search_fields = ("name",)
    fields = readonly_fields = ("id", "name", "created_by", "created_at")
    ordering = ("-created_at", "id")


@admin.register(DatasetVersion)
class DatasetVersionAdmin(HistoryAdmin):
    list_display = ("dataset", "number", "layout", "row_count", "created_by", "created_at", "withdrawn_at")
    list_select_related = ("dataset", "created_by")
    list_filter = ("layout", "withdrawn_at")
    search_fields = ("=id", "=sha256", "dataset__name")
    fields = readonly_fields = (
        "id",
        "dataset",
        "number",
        "layout",
        "row_count",
        "sha256",
        "origin",
        "report",
        "created_by",
        "created_at",
        "withdrawn_at",
    )
    ordering = ("-created_at", "id")
