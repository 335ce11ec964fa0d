"""Answers that a curator has verified: they are served before any cache and any model is asked."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.db.models import Q
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from embeddings.models import Collection
from inference.models.versions import Version
from llmsite.core.ids import row_id

Place = tuple[str, int | None, UUID | None]
"""Where an answer stands: its digest, and the ids of the person and of the collection it is for."""


class VerifiedAnswerQuerySet(models.QuerySet["VerifiedAnswer"]):
    # Every way to change rows counts a version, by which all processes notice (inference.catalogue).

    @transaction.atomic
    def update(self, **values: Any) -> int:
        changed = super().update(**values)
        if changed:
            Version.objects.bump(Version.VERIFIED)
        return changed

    @transaction.atomic
    def bulk_create(self, objs: Iterable["VerifiedAnswer"], *args: Any, **kwargs: Any) -> Any:
        created = super().bulk_create(objs, *args, **kwargs)  # type: ignore[arg-type]
        Version.objects.bump(Version.VERIFIED)
        return created

    def places(self) -> dict[Place, UUID]:
        """The ids of all, by where they stand."""
        rows = self.values_list("digest", "user_id", "collection_id", "pk")
        return {(digest, user, collection): pk for digest, user, collection, pk in rows}


class VerifiedAnswer(models.Model):
    """The answer to one question, for whom `user` or `collection` says; for everybody where neither does.

    `digest` stands for the question and the turns before it, after Unicode, case and space folding, so that
    equal questions find it (inference.verified).
    `source` is the feedback it comes from, of an app above this one.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    question = models.TextField(_("question"))
    answer = models.TextField(_("answer"))
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("person")
    )
    collection = models.ForeignKey(
        Collection,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("collection"),
    )
    source = models.UUIDField(_("feedback"), null=True, editable=False, db_index=True)
    created_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("verified by"),
    )
    created_at = models.DateTimeField(_("verified"), default=timezone.now)

    objects = VerifiedAnswerQuerySet.as_manager()

    class Meta:
        verbose_name = _("verified answer")
        verbose_name_plural = _("verified answers")
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None) | Q(collection=None), name="inference_verified_one_scope"
            ),
            models.UniqueConstraint(
                fields=["digest", "user"], condition=Q(user__isnull=False), name="inference_verified_of_user"
            ),
            models.UniqueConstraint(
                fields=["digest", "collection"],
                condition=Q(collection__isnull=False),
                name="inference_verified_of_collection",
            ),
            models.UniqueConstraint(
                fields=["digest"], condition=Q(user=None, collection=None), name="inference_verified_of_site"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)


@receiver([post_save, post_delete], sender=VerifiedAnswer)
def _count_change(**_kwargs: object) -> None:
    Version.objects.bump(Version.VERIFIED)
