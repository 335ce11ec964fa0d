"""Counters that tell every process that something it keeps in memory has changed."""

from django.db import models, transaction
from django.db.models import F, Q
from django.dispatch import Signal
from django.utils.translation import gettext_lazy as _

version_bumped = Signal()
"""Sent in the process that bumped a version: at once, and again when others can see the change."""


class VersionQuerySet(models.QuerySet["Version"]):
    def bump(self, name: str) -> None:
        """Count one change of `name`, as part of the caller's transaction."""
        if not self.filter(name=name).update(number=F("number") + 1):
            Version.objects.get_or_create(name=name)
            self.filter(name=name).update(number=F("number") + 1)
        version_bumped.send(Version)
        transaction.on_commit(_tell)

    def numbers(self) -> dict[str, int]:
        return dict(self.values_list("name", "number"))


def _tell() -> None:
    version_bumped.send(Version)


class Version(models.Model):
    """How often `name` has changed: the rows of a kind, or how often the cache was cleared."""

    MODELS = "models"
    CACHE = "cache"
    VERIFIED = "verified"
    EVICTED = "evicted"

    name = models.CharField(_("name"), max_length=30, primary_key=True)
    number = models.PositiveBigIntegerField(_("number"), default=0)

    objects = VersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version")
        verbose_name_plural = _("versions")
        constraints = [
            models.CheckConstraint(condition=Q(number__gte=0), name="inference_version_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.number}"
