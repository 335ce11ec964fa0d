"""Who may enter: users, their sign-ins and the keys of their programs."""

import uuid
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person. Rights come from groups and permissions, never from a token."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new password ends all sign-ins that the old one opened, wherever it was changed."""
        # Django keeps the raw password here from `set_password` to `save`, but not while it renews a hash.
        has_new_password = self.__dict__.get("_password") is not None and not self._state.adding
        super().save(*args, **kwargs)
        if has_new_password:
            Session.objects.filter(user=self).revoke()


class SessionQuerySet(models.QuerySet["Session"]):
    def live(self) -> "SessionQuerySet":
        return self.filter(revoked_at=None, user__is_active=True)

    def revoke(self) -> int:
        """End these sign-ins; tokens that name them are refused from now on."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())


class Session(models.Model):
    """One sign-in on one device: every token of it carries this id, so ending it ends them all."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions", verbose_name=_("user"))
    user_agent = models.CharField(_("browser or program"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    revoked_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("sign-in")
        verbose_name_plural = _("sign-ins")

    def __str__(self) -> str:
        return f"{self.user_id}: {self.user_agent}"


class RefreshToken(models.Model):
    """One refresh token of a sign-in, known by its SHA-256 only."""

    digest = models.CharField(primary_key=True, max_length=64, editable=False)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="refresh_tokens")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.digest[:8]


class Scope(models.TextChoices):
    """What a key may be limited to."""

    CHAT = "chat", _("chat")
    EMBED = "embed", _("embeddings")
    DOCUMENTS = "documents", _("documents")
    FEEDBACK = "feedback", _("feedback")
    TRAIN = "train", _("training")
    METRICS = "metrics", _("metrics")
    CACHE_CLEAR = "cache:clear", _("clear the cache")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> "ApiKeyQuerySet":
        in_time = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        return self.filter(in_time, revoked_at=None, user__is_active=True)


class ApiKey(models.Model):
    """A program's key. The secret is shown once, when it is made, and kept as its SHA-256."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys", verbose_name=_("user"))
    name = models.CharField(_("name"), max_length=100)
    public_id = models.CharField(_("public id"), max_length=8, editable=False)
    secret_digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(
        _("scopes"), default=list, blank=True, help_text=_("Empty: all rights of the owner.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        constraints = [
            # Also the index by which a request's key is found.
            models.UniqueConstraint(fields=["public_id"], name="accounts_apikey_public_id"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def allows(self, scope: str) -> bool:
        return not self.scopes or scope in self.scopes

    def revoke(self, *, now: datetime | None = None) -> bool:
        """End the key; False if it had ended before."""
        ended: Any = type(self).objects.filter(pk=self.pk, revoked_at=None)
        return bool(ended.update(revoked_at=now or timezone.now()))
