"""How good runs were. What models answered in an evaluation quotes examples, and is hidden."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, PrivateAdmin
from training.models import Evaluation, EvaluationAnswer


@admin.register(Evaluation)
class EvaluationAdmin(FoundByIndex, PrivateAdmin):
    private = ("error_data",)
    list_display = ("run", "passed", "judge", "error_code", "created_by", "created_at", "ended_at")
    list_select_related = ("run", "created_by")
    list_filter = ("passed",)
    search_fields = ("pk", "run", "run__name")
    search_help_text = _("The name of a run, or the id of a run or of an evaluation")
    date_hierarchy = "created_at"
    ordering = ("-pk",)
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


@admin.register(EvaluationAnswer)
class EvaluationAnswerAdmin(FoundByIndex, PrivateAdmin):
    private = ("before", "after")
    owner = "example.feedback.user"
    may_open = "accounts.curate"
    list_display = ("id", "evaluation_id", "example_id", "preferred")
    list_filter = ("preferred",)
    search_fields = ("evaluation", "example")
    search_help_text = _("The id of an evaluation or of an example")
    fields = readonly_fields = ("id", "evaluation", "example_id", "scores", "preferred")
    ordering = ("-pk",)
    sortable_by = ()
