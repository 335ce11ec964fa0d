"""People and teams."""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models.api_keys import RATE_FORM, ApiKey
from accounts.models.sign_ins import Session
from llmsite.core.rates import validate_rate


class User(AbstractUser):
    """A person. Rights come from groups and permissions, never from a token."""

    # The ledger and the audit log name a person by this alone, so they need no change when the person goes.
    pseudonym = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    rate_limit = models.CharField(
        _("rate limit"),
        max_length=20,
        blank=True,
        validators=[validate_rate],
        help_text=_("Such as 120/m; empty: the site's RATE_LIMIT."),
    )
    monthly_budget_micro = models.BigIntegerField(
        _("monthly budget, in millionths"),
        null=True,
        blank=True,
        help_text=_("In millionths of the site's currency; empty: no limit."),
    )

    training_consent_at = models.DateTimeField(
        _("allows training since"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Empty: nothing that they write is trained on."),
    )

    class Meta(AbstractUser.Meta):
        permissions = [
            ("curate", _("Can review feedback")),
            ("operate", _("Can run the site: dashboard, models, cache, training")),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(monthly_budget_micro=None) | Q(monthly_budget_micro__gte=0),
                name="accounts_user_budget_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(rate_limit="") | Q(rate_limit__regex=RATE_FORM), name="accounts_user_rate"
            ),
        ]

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._lost_its_password = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new password ends all sign-ins that the old one opened, and disabling ends the keys too."""
        # Django keeps the raw password here from `set_password` to `save`, but not while it renews a hash.
        given = self.__dict__.get("_password") is not None or "_lost_its_password" in self.__dict__
        has_new_password = given and not self._state.adding
        super().save(*args, **kwargs)
        self.__dict__.pop("_lost_its_password", None)
        if has_new_password or not self.is_active:
            Session.objects.filter(user=self).revoke()
        if not self.is_active:
            ApiKey.objects.filter(user=self).revoke()


class RoleGrant(models.Model):
    """That a role was once given a permission: what is taken from it later does not come back by itself."""

    role = models.CharField(max_length=150)
    permission = models.CharField(max_length=200)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["role", "permission"], name="accounts_rolegrant_once")]

    def __str__(self) -> str:
        return f"{self.role}: {self.permission}"


class Team(models.Model):
    """People who work together. What a team shares says so itself; a membership alone opens nothing."""

    name = models.CharField(_("name"), max_length=100)
    members = models.ManyToManyField(User, related_name="teams", blank=True, verbose_name=_("members"))

    class Meta:
        verbose_name = _("team")
        verbose_name_plural = _("teams")
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["name"], name="accounts_team_name")]

    def __str__(self) -> str:
        return self.name
