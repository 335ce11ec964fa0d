"""Runs, evaluations and promotions: what the pages of the site show, to be searched and filtered."""

from django.contrib import admin

from accounts.admin.base import HistoryAdmin
from training.models import Evaluation, Promotion, TrainingRun


@admin.register(TrainingRun)
class TrainingRunAdmin(HistoryAdmin):
    list_display = (
        "name",
        "status",
        "version",
        "step",
        "total_steps",
        "created_by",
        "created_at",
        "ended_at",
    )
    list_select_related = ("version__dataset", "created_by")
    list_filter = ("status",)
    search_fields = ("=id", "name")
    ordering = ("-created_at", "id")
    fields = readonly_fields = (
        "id",
        "name",
        "version",
        "status",
        "step",
        "total_steps",
        "base_model",
        "base_sha256",
        "settings",
        "estimate",
        "tries",
        "error_code",
        "created_by",
        "created_at",
        "started_at",
        "cancel_requested_at",
        "ended_at",
    )


@admin.register(Evaluation)
class EvaluationAdmin(HistoryAdmin):
    list_display = ("run", "passed", "judge", "error_code", "created_by", "created_at", "ended_at")
    list_select_related = ("run", "created_by")
    list_filter = ("passed",)
    search_fields = ("=id", "=run__id", "run__name")
    ordering = ("-created_at", "id")
    fields = readonly_fields = (
        "id",
        "run",
        "judge",
        "passed",
        "reasons",
        "results",
        "thresholds",
        "error_code",
        "created_by",
        "created_at",
        "ended_at",
    )


@admin.register(Promotion)
class PromotionAdmin(HistoryAdmin):
    list_display = ("model", "adapter", "is_rollback", "status", "created_by", "created_at", "live_at")
    list_select_related = ("model", "adapter", "created_by")
    list_filter = ("status", "is_rollback")
    search_fields = ("=id", "adapter__name", "model__alias")
    ordering = ("-created_at", "id")
    fields = readonly_fields = (
        "id",
        "model",
        "adapter",
        "previous",
        "is_rollback",
        "status",
        "error",
        "created_by",
        "created_at",
        "live_at",
    )
