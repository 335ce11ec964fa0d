"""Sign-ins and their refresh tokens."""

import uuid
from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.recent import forget_what_changed
from llmsite.core.errors import NotFound


class SessionQuerySet(models.QuerySet["Session"]):
    def visible_to(self, user: models.Model) -> Self:
        return self.live().filter(user=user)

    def live(self) -> Self:
        return self.filter(revoked_at=None, user__is_active=True)

    def revoke(self) -> int:
        """End these sign-ins; tokens that name them are refused from now on."""
        ended = self.filter(revoked_at=None).update(revoked_at=timezone.now())
        forget_what_changed()
        return ended


class Session(models.Model):
    """One sign-in on one device: every token of it carries this id, so ending it ends them all."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        "accounts.User", on_delete=models.CASCADE, related_name="sessions", verbose_name=_("user")
    )
    user_agent = models.CharField(_("browser or program"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"), default=timezone.now)
    revoked_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("sign-in")
        verbose_name_plural = _("sign-ins")
        # The list of the admin, newest first.
        indexes = [models.Index(fields=["-created_at", "id"], name="accounts_session_by_time")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.user_agent}"


def access_session(user: models.Model, pk: uuid.UUID) -> Session:
    """The only way to a sign-in by its id. Raises NotFound for a missing, an ended and a foreign one."""
    session = Session.objects.visible_to(user).filter(pk=pk).first()
    if session is None:
        raise NotFound
    return session


class RefreshToken(models.Model):
    """One refresh token of a sign-in, known by its SHA-256 only."""

    digest = models.CharField(primary_key=True, max_length=64, editable=False)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="refresh_tokens")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.digest[:8]
