"""What happened to accounts and models, and who did it. Written once, never changed."""

import uuid
from typing import Any, NoReturn, TypeVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

_Row = TypeVar("_Row", bound=models.Model, covariant=True)


class WrittenOnceQuerySet(models.QuerySet[_Row]):
    """Rows to read. SQLite's triggers let rows be deleted, so what asks for that has to be refused here."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError(f"a {self.model.__name__} is never changed")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"a {self.model.__name__} is never changed")

    def delete(self) -> NoReturn:
        raise TypeError(f"a {self.model.__name__} is never deleted")


class WrittenOnce(models.Model):
    """A row that is added and then stays as it is; the database refuses changes too (migration 0003)."""

    objects = WrittenOnceQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"a {type(self).__name__} is never changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is never deleted")


class AuditKind(models.TextChoices):
    REGISTERED = "registered", _("registered")
    SIGNED_IN = "signed_in", _("signed in")
    SIGN_IN_FAILED = "sign_in_failed", _("sign-in failed")
    SIGNED_OUT = "signed_out", _("signed out")
    SESSION_ENDED = "session_ended", _("sign-in ended")
    TOKEN_REPLAYED = "token_replayed", _("refresh token used twice")
    PASSWORD_CHANGED = "password_changed", _("password changed")
    PASSWORD_RESET = "password_reset", _("password reset by e-mail")
    KEY_CREATED = "key_created", _("key created")
    KEY_REVOKED = "key_revoked", _("key revoked")
    ROLE_GRANTED = "role_granted", _("role granted")
    ROLE_REMOVED = "role_removed", _("role removed")
    RIGHTS_CHANGED = "rights_changed", _("rights changed")
    EMAIL_CHANGED = "email_changed", _("e-mail address changed")
    LIMITS_CHANGED = "limits_changed", _("limits changed")
    ENABLED = "enabled", _("account enabled")
    DISABLED = "disabled", _("account disabled")
    CHAT_READ = "chat_read", _("chat read by staff")
    DATA_DOWNLOADED = "data_downloaded", _("data downloaded")
    ERASED = "erased", _("account erased")
    MODEL_CHANGED = "model_changed", _("model changed")
    MODEL_SWITCHED = "model_switched", _("default model switched")
    CACHE_CLEARED = "cache_cleared", _("cache cleared")
    DOCUMENT_DELETED = "document_deleted", _("document deleted")
    COLLECTION_DELETED = "collection_deleted", _("collection deleted")
    COLLECTION_SHARED = "collection_shared", _("readers of a collection changed")
    CONSENT_CHANGED = "consent_changed", _("consent to training changed")
    FEEDBACK_ACCEPTED = "feedback_accepted", _("feedback accepted")
    FEEDBACK_REJECTED = "feedback_rejected", _("feedback rejected")
    FEEDBACK_REVOKED = "feedback_revoked", _("accepted feedback revoked")
    FEEDBACK_EXPORTED = "feedback_exported", _("feedback exported")
    DATASET_MADE = "dataset_made", _("data set made")
    DATASET_DELETED = "dataset_deleted", _("data set deleted")
    DATASET_WITHDRAWN = "dataset_withdrawn", _("data set withdrawn")
    RUN_STARTED = "run_started", _("training run started")
    RUN_CANCELLED = "run_cancelled", _("training run cancelled")
    ADAPTER_PROMOTED = "adapter_promoted", _("adapter promoted")
    ADAPTER_RESTORED = "adapter_rolled_back", _("model rolled back")
    ADAPTER_WITHDRAWN = "adapter_withdrawn", _("adapter withdrawn")
    PRIVATE_OPENED = "private_opened", _("private text opened")
    TASK_RETRIED = "task_retried", _("task put back to work")
    TASK_CANCELLED = "task_cancelled", _("task called off")
    DOCUMENT_REREAD = "document_reread", _("document read again")
    COLLECTION_REINDEXED = "collection_reindexed", _("collection indexed anew")
    DATA_PRUNED = "data_pruned", _("old data removed")
    SITE_RESTORED = "site_restored", _("site restored from a backup")
    SITE_BACKED_UP = "site_backed_up", _("site backed up")


class AuditEvent(WrittenOnce):
    """One event. `actor` did it, to `subject`; both are pseudonyms (`User.pseudonym`).

    `data` and `network` never name a person: of an address only its network is kept.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(_("when"), default=timezone.now)
    kind = models.CharField(_("what"), max_length=20, choices=AuditKind.choices)
    actor = models.UUIDField(_("who"), null=True)
    subject = models.UUIDField(_("to whom"), null=True)
    network = models.CharField(_("network"), max_length=50, blank=True)
    request_id = models.CharField(_("request id"), max_length=128, blank=True)
    data = models.JSONField(_("details"), default=dict)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit log")
        ordering = ("-created_at", "-id")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=AuditKind.values), name="accounts_audit_kind"),
        ]
        indexes = [
            models.Index(fields=["created_at", "id"], name="accounts_audit_by_time"),
            models.Index(fields=["subject", "-created_at"], name="accounts_audit_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.kind}"
