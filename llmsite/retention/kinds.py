"""The kinds of data that grow, and which rows of each may go.

None of them is what something else stands on: a correction that was accepted, a version of a data set, an
answer that is being written or that the dashboard has not counted yet, an adapter that answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.models import AuditEvent, LedgerEntry
from accounts.models.audit import AuditKind
from embeddings.deletion import delete_document
from embeddings.models import Document, DocumentVersion
from feedback.models import Feedback, ReviewStatus
from inference.models import Adapter, Conversation, Generation
from inference.models.generations import RUNNING
from llmsite.core.worker import ended_tasks
from training.models import ENDED, DatasetRow, Metric, Promotion, PromotionStatus

Rows = QuerySet[Any]

ALWAYS_KEPT = (
    AuditKind.ERASED,
    AuditKind.DISABLED,
    AuditKind.ENABLED,
    AuditKind.PRIVATE_OPENED,
    AuditKind.CHAT_READ,
)
"""The first three tell a restored backup who was erased, and whose erasure has not come to its end.

The others tell whose private texts staff have read, and why: whoever opens one is told that this stays.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """`due` gives the rows that were last used before a moment and may go; `moment` is the field of that."""

    name: str
    setting: str
    label: str | Promise
    moment: str
    due: Callable[[datetime], Rows]
    remove: Callable[[Rows], int]
    at_once: int = 500
    """Rows of one transaction, during which nobody else writes to SQLite."""

    @property
    def days(self) -> int:
        """How long they are kept; 0 for ever."""
        return int(getattr(settings, self.setting))

    def due_now(self, *, days: int | None = None) -> Rows:
        return self.due(timezone.now() - timedelta(days=self.days if days is None else days))


def _conversations(*, is_listed: bool) -> Callable[[datetime], Rows]:
    def due(before: datetime) -> Rows:
        answers = Generation.objects.filter(message__conversation=OuterRef("pk"))
        needed = answers.filter(Q(status__in=RUNNING) | Q(rolled_up=False))
        said = Feedback.objects.filter(message__conversation=OuterRef("pk"))
        found = Conversation.objects.filter(is_listed=is_listed, updated_at__lt=before)
        return found.filter(~Exists(needed), ~Exists(_needed(said)))

    return due


def _needed(said: QuerySet[Feedback]) -> QuerySet[Feedback]:
    """What was accepted, or was trained on."""
    trained_on = DatasetRow.objects.filter(feedback=OuterRef("pk"))
    return said.filter(Q(status=ReviewStatus.ACCEPTED) | Exists(trained_on))


def _feedback(before: datetime) -> Rows:
    needed = _needed(Feedback.objects.filter(pk=OuterRef("pk")))
    return Feedback.objects.filter(~Exists(needed), updated_at__lt=before)


def _documents(before: datetime) -> Rows:
    versions = DocumentVersion.objects.filter(document=OuterRef("pk"))
    newer = versions.filter(created_at__gte=before)
    found = Document.objects.filter(created_at__lt=before, deleting_at=None, collection__deleting_at=None)
    return found.filter(~Exists(newer), ~Exists(versions.running()))


def _metrics(before: datetime) -> Rows:
    live = Promotion.objects.filter(status__in=(PromotionStatus.LIVE, PromotionStatus.LOADING))
    serving = Adapter.objects.filter(pk__in=live.exclude(adapter=None).values("adapter"), run=OuterRef("run"))
    return Metric.objects.filter(~Exists(serving), logged_at__lt=before, run__status__in=ENDED)


def _ledger(before: datetime) -> Rows:
    """Never of this month and the last one, of which budgets and corrections are not settled."""
    this_month = timezone.now().date().replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return LedgerEntry._base_manager.filter(created_at__lt=before, month__lt=last_month)


def _audit(before: datetime) -> Rows:
    return AuditEvent._base_manager.filter(created_at__lt=before).exclude(kind__in=ALWAYS_KEPT)


def _admin_log(before: datetime) -> Rows:
    return LogEntry.objects.filter(action_time__lt=before)


# --- How they go ------------------------------------------------------------------------------------


def _delete(rows: Rows) -> int:
    """As by hand: what hangs on a row goes with it. Returns how many rows of the kind itself there were."""
    return rows.delete()[1].get(rows.model._meta.label, 0)


def _delete_written_once(rows: Rows) -> int:
    """The database lets these go only to who says, for one transaction, that it is for retention."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL llmsite.retention = 'on'")
    return _delete(rows)


def _delete_documents(rows: Rows) -> int:
    """Out of sight now; a task removes file, chunks and what is indexed."""
    documents: list[Document] = list(rows)
    for document in documents:
        delete_document(document, actor=None)
    return len(documents)


KINDS: tuple[Kind, ...] = (
    Kind(
        "conversations",
        "RETENTION_CONVERSATIONS_DAYS",
        _("Conversations, since their last message"),
        "updated_at",
        _conversations(is_listed=True),
        _delete,
        at_once=50,
    ),
    Kind(
        "one_off",
        "RETENTION_ONE_OFF_DAYS",
        _("Single questions of programs"),
        "updated_at",
        _conversations(is_listed=False),
        _delete,
        at_once=100,
    ),
    Kind(
        "feedback",
        "RETENTION_FEEDBACK_DAYS",
        _("Feedback that was not accepted, since its last change"),
        "updated_at",
        _feedback,
        _delete,
        at_once=100,
    ),
    Kind(
        "documents",
        "RETENTION_DOCUMENTS_DAYS",
        _("Documents, since their last version"),
        "created_at",
        _documents,
        _delete_documents,
        at_once=20,
    ),
    Kind(
        "training_metrics",
        "RETENTION_TRAINING_METRICS_DAYS",
        _("Curves of trainings that have ended"),
        "logged_at",
        _metrics,
        _delete,
    ),
    Kind(
        "ledger",
        "RETENTION_LEDGER_DAYS",
        _("Entries of the ledger"),
        "created_at",
        _ledger,
        _delete_written_once,
    ),
    Kind(
        "audit",
        "RETENTION_AUDIT_DAYS",
        _("Events of the audit log"),
        "created_at",
        _audit,
        _delete_written_once,
    ),
    Kind(
        "admin_log",
        "RETENTION_ADMIN_LOG_DAYS",
        _("The admin’s own log"),
        "action_time",
        _admin_log,
        _delete,
    ),
)

TASKS = Kind(
    "tasks",
    "RETENTION_TASKS_DAYS",
    _("Tasks that have ended"),
    "finished_at",
    ended_tasks,
    _delete,
)
"""Not among the others: they hold nobody's data, and the worker removes them itself, without an event."""
