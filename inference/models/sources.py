"""The passages that answers were given, as they were then: an old answer still shows what it stands on."""

import uuid
from collections.abc import Collection as Group
from typing import Self

from django.db import models
from django.db.models import Exists, OuterRef, Value
from django.db.models.functions import Cast, Concat
from django.utils.translation import gettext_lazy as _

from embeddings.models import Collection
from inference.models.generations import Generation, Grounding


class AnswerSourceQuerySet(models.QuerySet["AnswerSource"]):
    def of_documents(self, ids: Group[uuid.UUID], versions: Group[uuid.UUID] | None = None) -> Self:
        """All of these documents, or those of some versions of them."""
        rows = self.filter(document__in=ids)
        return rows if versions is None else rows.filter(version__in=versions)

    def quoted(self) -> Self:
        """Those that an answer is made of, without a model; the others it was given and did not use."""
        mark = Concat(Value("["), Cast("number", models.CharField()), Value("]"))
        extracts = self.filter(generation__grounding=Grounding.EXTRACT)
        return extracts.filter(generation__message__content__contains=mark)

    def blank(self) -> int:
        """Remove what they say of their documents; that there was a passage stays to be seen."""
        return self.exclude(text="").update(title="", text="")


class AnswerSourceManager(models.Manager.from_queryset(AnswerSourceQuerySet)):  # type: ignore[misc]
    """Each row is read with whether the person whose answer it is may read it now.

    As the rule stands here, whoever reads rows reads it with them: with an answer, a page or an export.
    """

    def get_queryset(self) -> AnswerSourceQuerySet:
        readable = Collection.objects.visible_to(OuterRef("generation__user"))
        rows: AnswerSourceQuerySet = super().get_queryset()
        return rows.annotate(is_readable=Exists(readable.filter(pk=OuterRef("collection"))))


class AnswerSource(models.Model):
    """One passage of one answer, which cites it by `number`; without a text once it is deleted or replaced.

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

    objects = AnswerSourceManager()

    class Meta:
        verbose_name = _("source of an answer")
        verbose_name_plural = _("sources of answers")
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

    @property
    def is_withheld(self) -> bool:
        """Whether there is something here that its reader may not be told any more."""
        # A row that was not read by `objects` does not know, and is told to nobody.
        return bool(self.text) and not getattr(self, "is_readable", False)
