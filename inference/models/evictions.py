"""Answers that were taken out of the cache, for as long as some store might still have them."""

from datetime import datetime

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inference.models.versions import Version


class EvictedAnswerQuerySet(models.QuerySet["EvictedAnswer"]):
    @transaction.atomic
    def put(self, key: str, *, at: datetime) -> None:
        """Note that what was kept under `key` until now is no answer any more."""
        self.update_or_create(key=key, defaults={"at": at})
        Version.objects.bump(Version.EVICTED)

    def times(self) -> dict[str, float]:
        """When each was taken out, in Unix time."""
        return {key: at.timestamp() for key, at in self.values_list("key", "at")}


class EvictedAnswer(models.Model):
    """The key of an answer (`Generation.cache_key`), and when it was taken out."""

    key = models.CharField(_("key"), max_length=100, primary_key=True)
    at = models.DateTimeField(_("when"), default=timezone.now)

    objects = EvictedAnswerQuerySet.as_manager()

    class Meta:
        verbose_name = _("evicted answer")
        verbose_name_plural = _("evicted answers")

    def __str__(self) -> str:
        return self.key
