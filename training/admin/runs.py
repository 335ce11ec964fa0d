"""Runs and what they logged; a run is called off here, and what it has learned is promoted."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, HistoryAdmin, PrivateAdmin, RowAction
from accounts.models import User
from training.models import Metric, TrainingRun
from training.promotion import promote
from training.starting import cancel


def _cancel(run: TrainingRun, actor: User) -> None:
    cancel(run, user=actor)


def _promote(run: TrainingRun, actor: User) -> None:
    promote(run, user=actor)


@admin.register(TrainingRun)
class TrainingRunAdmin(PrivateAdmin):
    """Why a run failed may quote a row of its data."""

    private = ("error_data",)
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
    search_fields = ("name",)
    date_hierarchy = "created_at"
    ordering = ("-pk",)
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
        "request_id",
        "created_by",
        "created_at",
        "started_at",
        "cancel_requested_at",
        "ended_at",
    )
    actions = (
        RowAction(
            "cancel",
            _cancel,
            label=_("Cancel runs"),
            question=_("These runs end within seconds. What they have learned so far is thrown away."),
            permission="accounts.operate",
        ),
        RowAction(
            "promote",
            _promote,
            label=_("Promote what runs have learned"),
            question=_(
                "The first model that serves the base model of a run answers everybody with what the run has "
                "learned, as soon as all engine processes have loaded it."
            ),
            permission="accounts.operate",
            needs_password=True,
        ),
    )


@admin.register(Metric)
class MetricAdmin(FoundByIndex, HistoryAdmin):
    list_display = ("run_id", "step", "loss", "eval_loss", "learning_rate", "tokens_per_second", "logged_at")
    search_fields = ("run",)
    search_help_text = _("The id of a run")
    fields = readonly_fields = (
        "run",
        "step",
        "loss",
        "eval_loss",
        "learning_rate",
        "gradient_norm",
        "tokens_per_second",
        "logged_at",
    )
    ordering = ("-pk",)
    sortable_by = ()
