"""What is searched: pieces of documents, with their vectors. The database is the truth; indexes follow it."""

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from embeddings.models.collections import Collection
from embeddings.models.documents import DocumentVersion


class IndexStatus(models.TextChoices):
    BUILDING = "building", _("building")
    ACTIVE = "active", _("active")


class SearchIndex(models.Model):
    """All chunks of a collection that one chunker cut for one embedder.

    A collection is searched in its active one. Another embedder or chunker gets one of its own, which is
    built beside it and takes its place in one statement.
    """

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="indexes")
    embedder = models.CharField(max_length=200)
    dimensions = models.PositiveIntegerField()
    chunker = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=IndexStatus.choices, default=IndexStatus.BUILDING)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("search index")
        verbose_name_plural = _("search indexes")
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=IndexStatus.values), name="embeddings_index_status"
            ),
            models.UniqueConstraint(
                fields=["collection"], condition=Q(status="active"), name="embeddings_index_one_active"
            ),
            models.UniqueConstraint(
                fields=["collection", "embedder", "chunker"], name="embeddings_index_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.collection_id} · {self.embedder} · {self.chunker}"


class ChunkQuerySet(models.QuerySet["Chunk"]):
    def current(self) -> Self:
        """Those a search may find: of the active index, and of the version that a document shows."""
        return self.filter(
            index__status=IndexStatus.ACTIVE,
            version=F("version__document__current"),
            version__document__deleting_at=None,
        )

    def visible_to(self, user: User) -> Self:
        return self.current().filter(version__document__collection__in=Collection.objects.visible_to(user))


class Chunk(models.Model):
    """A piece of one page: `text` is that page's text from `start` to `end`, in characters."""

    index = models.ForeignKey(SearchIndex, on_delete=models.CASCADE, related_name="chunks")
    version = models.ForeignKey(DocumentVersion, on_delete=models.CASCADE, related_name="chunks")
    ordinal = models.PositiveIntegerField()
    page = models.PositiveIntegerField()
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    heading = models.CharField(max_length=300, blank=True)
    text = models.TextField()
    vector = models.BinaryField(
        null=True, help_text=_("16-bit floats of length one, little-endian; empty until it is embedded.")
    )

    objects = ChunkQuerySet.as_manager()

    class Meta:
        verbose_name = _("chunk")
        verbose_name_plural = _("chunks")
        constraints = [
            models.UniqueConstraint(fields=["index", "version", "ordinal"], name="embeddings_chunk_ordinal"),
            models.CheckConstraint(condition=Q(start__lt=F("end")), name="embeddings_chunk_range"),
        ]

    def __str__(self) -> str:
        return f"{self.version_id} · {self.ordinal}"
