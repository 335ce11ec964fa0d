"""The keys of programs."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.recent import forget_what_changed
from llmsite.core.errors import NotFound
from llmsite.core.rates import validate_rate

RATE_FORM = r"^[1-9][0-9]*/[smhd]\Z"
"""The normal form of a rate, for constraints: PostgreSQL and Python (in SQLite) read it alike."""


class Scope(models.TextChoices):
    """What a key may be limited to."""

    CHAT = "chat", _("chat")
    EMBED = "embed", _("embeddings")
    DOCUMENTS = "documents", _("documents")
    FEEDBACK = "feedback", _("feedback")
    TRAIN = "train", _("training")
    METRICS = "metrics", _("metrics")
    CACHE_CLEAR = "cache:clear", _("clear the cache")


PERMISSION_OF_SCOPE = {
    Scope.TRAIN: "accounts.operate",
    Scope.METRICS: "accounts.operate",
    Scope.CACHE_CLEAR: "accounts.operate",
}
"""Scopes that reach no further than the owner's rights of the moment; the others are open to everybody."""


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def visible_to(self, user: models.Model) -> Self:
        return self.filter(user=user, revoked_at=None)

    def usable(self) -> Self:
        in_time = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        return self.filter(in_time, revoked_at=None, user__is_active=True)

    def revoke(self) -> int:
        """End these keys; they are refused from now on."""
        ended = self.filter(revoked_at=None).update(revoked_at=timezone.now())
        forget_what_changed()
        return ended


class ApiKey(models.Model):
    """A program's key. The secret is shown once, when it is made, and kept as its SHA-256."""

    user = models.ForeignKey(
        "accounts.User", on_delete=models.CASCADE, related_name="api_keys", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=100)
    public_id = models.CharField(_("public id"), max_length=8, editable=False)
    secret_digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(
        _("scopes"), default=list, blank=True, help_text=_("Empty: all rights of the owner.")
    )
    allowed_models = models.JSONField(
        _("models"), default=list, blank=True, help_text=_("Aliases that it may ask; empty: all.")
    )
    rate_limit = models.CharField(
        _("rate limit"),
        max_length=20,
        blank=True,
        validators=[validate_rate],
        help_text=_("Such as 20/m, beside the limit of its owner; empty: none of its own."),
    )
    monthly_budget_micro = models.BigIntegerField(
        _("monthly budget, in millionths"),
        null=True,
        blank=True,
        help_text=_("In millionths of the site's currency; empty: no limit."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        constraints = [
            # Also the index by which a request's key is found.
            models.UniqueConstraint(fields=["public_id"], name="accounts_apikey_public_id"),
            models.CheckConstraint(
                condition=Q(monthly_budget_micro=None) | Q(monthly_budget_micro__gte=0),
                name="accounts_apikey_budget_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(rate_limit="") | Q(rate_limit__regex=RATE_FORM), name="accounts_apikey_rate"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    def allows(self, scope: str) -> bool:
        return not self.scopes or scope in self.scopes

    def allows_model(self, alias: str) -> bool:
        return not self.allowed_models or alias in self.allowed_models

    def revoke(self) -> bool:
        """End the key; False if it had ended before."""
        return bool(type(self).objects.filter(pk=self.pk).revoke())


def access_api_key(user: models.Model, pk: int) -> ApiKey:
    """The only way to a key by its id. Raises NotFound for a missing, an ended and a foreign one."""
    key = ApiKey.objects.visible_to(user).select_related("user").filter(pk=pk).first()
    if key is None:
        raise NotFound
    return key
