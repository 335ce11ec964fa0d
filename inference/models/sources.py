"""The passages that answers were given, as they were then: an old answer still shows what it stands on."""

import uuid
from collections.abc import Collection
from typing import Self

from django.db import models

from inference.models.generations import Generation


class AnswerSourceQuerySet(models.QuerySet["AnswerSource"]):
    def of_documents(self, ids: Collection[uuid.UUID]) -> Self:
        return self.filter(document__in=ids)

    def blank(self) -> int:
        """Remove what they say of their documents; that there was a passage stays to be seen."""
        return self.exclude(text="").update(title="", text="")


class AnswerSource(models.Model):
    """One passage of one answer, which cites it by `number`. Its text is empty once its document is deleted.

    The ids are no foreign keys: an answer outlives what it was made of.
    """

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="sources")
    number = models.PositiveSmallIntegerField()
    document = models.UUIDField()
    version = models.UUIDField()
    collection = models.UUIDField()
    title = models.CharField(max_length=255, blank=True)
    page = models.PositiveIntegerField(null=True)
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    text = models.TextField(blank=True)
    score = models.FloatField()

    objects = AnswerSourceQuerySet.as_manager()

    class Meta:
        ordering = ("number",)
        constraints = [
            models.UniqueConstraint(fields=["generation", "number"], name="inference_source_number"),
        ]
        indexes = [
            # What a document that is being deleted has left in answers.
            models.Index(fields=["document"], name="inference_source_document"),
        ]

    def __str__(self) -> str:
        # No title: whoever sees this may not be one who may read the document.
        return f"{self.generation_id} [{self.number}]"
