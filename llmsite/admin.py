"""The queue of the process `worker` in the admin, whose tasks are put back to work or called off."""

from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_tasks_db.models import DBTaskResult

from accounts.admin import FoundByIndex, HistoryAdmin, RowAction
from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from embeddings.ingestion import ingest_version
from embeddings.intake import read_again
from embeddings.models import DocumentVersion
from embeddings.rebuild import index_again, rebuild_outdated
from llmsite.core.errors import InvalidInput
from llmsite.core.worker import call_off, retry

MAY_BE_CALLED_OFF = {task.module_path for task in (ingest_version, rebuild_outdated, index_again)}
"""What is only late without them. The others remove what people have deleted, and nothing else would."""


def _retry(row: DBTaskResult, actor: User) -> bool:
    again = _read_again(row) if row.task_path == ingest_version.module_path else retry(row)
    if again:
        record(AuditKind.TASK_RETRIED, subject=None, actor=actor, task=str(row.pk), path=row.task_path)
    return again


def _read_again(row: DBTaskResult) -> bool:
    """A version whose task has failed has failed too, and is read again by a new one."""
    version = DocumentVersion.objects.filter(pk=UUID(row.args_kwargs["args"][0]), status="failed").first()
    newest = read_again(version.document) if version else None
    return newest is not None and newest == version


def _call_off(row: DBTaskResult, actor: User) -> bool:
    if row.task_path not in MAY_BE_CALLED_OFF:
        raise InvalidInput(
            field="task", reason=_("It removes what somebody has deleted, and has to come to its end.")
        )
    if not call_off(row):
        return False
    record(AuditKind.TASK_CANCELLED, subject=None, actor=actor, task=str(row.pk), path=row.task_path)
    return True


# In the words of docs/administration.md. Set here, as the table and its migrations are those of a package.
DBTaskResult._meta.verbose_name = gettext_lazy("task")
DBTaskResult._meta.verbose_name_plural = gettext_lazy("tasks")
admin.site.unregister(DBTaskResult)


@admin.register(DBTaskResult)
class TaskAdmin(FoundByIndex, HistoryAdmin):
    """Arguments are ids, and an error has no words: nothing here quotes what a task was working on."""

    list_display = ("enqueued_at", "task_name", "status", "tries", "started_at", "finished_at", "error")
    list_filter = ("status",)
    search_fields = ("pk", "task_path")
    search_help_text = gettext_lazy("An id, or the whole path of a task")
    fields = readonly_fields = (
        "id",
        "task_path",
        "status",
        "args_kwargs",
        "priority",
        "tries",
        "enqueued_at",
        "run_after",
        "started_at",
        "finished_at",
        "exception_class_path",
        "traceback",
    )
    ordering = ("-enqueued_at", "pk")
    sortable_by = ()
    actions = (
        RowAction(
            "retry",
            _retry,
            label=gettext_lazy("Put tasks back to work"),
            question=gettext_lazy("Those that have failed are done again, as if they were new."),
            permission="accounts.operate",
        ),
        RowAction(
            "call_off",
            _call_off,
            label=gettext_lazy("Call tasks off"),
            question=gettext_lazy(
                "Those that wait end at once, those that run within seconds. A document whose reading is "
                "called off has failed, and can be read again."
            ),
            permission="accounts.operate",
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[DBTaskResult]:
        return super().get_queryset(request).defer("traceback", "return_value", "args_kwargs")

    @admin.display(description=gettext_lazy("tries"))
    def tries(self, row: DBTaskResult) -> int:
        return len(row.worker_ids)

    @admin.display(description=gettext_lazy("error"))
    def error(self, row: DBTaskResult) -> str:
        return row.exception_class_path.rpartition(".")[2]

    @admin.display(description=gettext_lazy("task"))
    def task_name(self, row: DBTaskResult) -> str:
        return row.task_path.rpartition(".")[2]
