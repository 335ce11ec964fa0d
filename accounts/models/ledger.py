"""What calls to models cost. Money is a whole number of millionths of the site's currency."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.audit import WrittenOnce


class Priced(models.Model):
    """Who pays for a call, out of which month's budget, of which model, at which prices of that moment.

    `account` is the payer's pseudonym and `api_key` the public id of the key that asked, so nothing here
    has to change when a person goes.
    """

    account = models.UUIDField(_("account"))
    month = models.DateField(_("month"), help_text=_("Its first day, in UTC: when the call was asked."))
    api_key = models.CharField(_("API key"), max_length=8, blank=True)
    model = models.CharField(_("model"), max_length=100)
    provider = models.CharField(_("provider"), max_length=50)
    input_price = models.DecimalField(_("price of a million input tokens"), max_digits=12, decimal_places=6)
    output_price = models.DecimalField(_("price of a million output tokens"), max_digits=12, decimal_places=6)

    class Meta:
        abstract = True

    def terms(self) -> dict[str, Any]:
        """All of the above, for another row of the same call."""
        return {field.attname: getattr(self, field.attname) for field in Priced._meta.local_fields}


class EntryKind(models.TextChoices):
    CALL = "call", _("call")
    CORRECTION = "correction", _("correction")


class LedgerEntry(WrittenOnce, Priced):
    """One booking. What a call cost is the sum of its entries: the first, and corrections by a difference.

    An entry that is not `estimated` is final, and a call has at most one of those.
    """

    call = models.UUIDField(_("call"))
    kind = models.CharField(_("kind"), max_length=10, choices=EntryKind.choices, default=EntryKind.CALL)
    input_tokens = models.IntegerField(_("input tokens"))
    output_tokens = models.IntegerField(_("output tokens"))
    cost_micro = models.BigIntegerField(_("cost in millionths"))
    estimated = models.BooleanField(_("tokens are our own count"), default=False)
    created_at = models.DateTimeField(_("booked"), default=timezone.now)

    class Meta:
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger")
        ordering = ("-created_at", "-pk")
        constraints = [
            models.UniqueConstraint(
                fields=["call"], condition=Q(kind="call"), name="accounts_ledger_call_once"
            ),
            models.UniqueConstraint(
                fields=["call"], condition=Q(estimated=False), name="accounts_ledger_final_once"
            ),
            models.CheckConstraint(condition=Q(kind__in=EntryKind.values), name="accounts_ledger_kind"),
            models.CheckConstraint(
                condition=~Q(kind="call") | Q(input_tokens__gte=0, output_tokens__gte=0, cost_micro__gte=0),
                name="accounts_ledger_call_not_negative",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "month"], name="accounts_ledger_by_account"),
            models.Index(fields=["call"], name="accounts_ledger_by_call"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.call}: {self.cost_micro}"


class Reservation(Priced):
    """A call under way, and the most it can cost. Whoever deletes this row is the one who books the call.

    `input_tokens` is our own count of the prompt, which is booked where nobody learns more.
    """

    call = models.UUIDField(primary_key=True)
    amount_micro = models.BigIntegerField()
    input_tokens = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_micro__gte=0), name="accounts_reservation_not_negative"
            ),
        ]
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")

    def __str__(self) -> str:
        return f"{self.call}: {self.amount_micro}"


class Spending(models.Model):
    """What one holder of a budget, a person or a key, has spent and reserved in one month (UTC)."""

    holder = models.CharField(max_length=50)
    month = models.DateField()
    spent_micro = models.BigIntegerField(default=0)
    reserved_micro = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["holder", "month"], name="accounts_spending_month"),
            models.CheckConstraint(
                condition=Q(spent_micro__gte=0, reserved_micro__gte=0),
                name="accounts_spending_not_negative",
            ),
        ]
        verbose_name = _("budget")
        verbose_name_plural = _("budgets")

    def __str__(self) -> str:
        return f"{self.holder} {self.month:%Y-%m}"
