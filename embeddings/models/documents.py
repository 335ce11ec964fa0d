"""Documents: what was uploaded, in versions, on its way to being searchable."""

from typing import Self
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from embeddings.models.collections import Collection
from llmsite.core.errors import NotFound
from llmsite.core.ids import row_id


class Status(models.TextChoices):
    """What its owner sees of a version."""

    QUEUED = "queued", _("queued")
    PARSING = "parsing", _("reading")
    EMBEDDING = "embedding", _("embedding")
    READY = "ready", _("ready")
    FAILED = "failed", _("failed")


class Step(models.TextChoices):
    """The last step of ingestion that is done, and will not be done again."""

    STORED = "stored"
    PARSED = "parsed"
    CHUNKED = "chunked"
    EMBEDDED = "embedded"
    INDEXED = "indexed"
    COMMITTED = "committed"


RUNNING = (Status.QUEUED, Status.PARSING, Status.EMBEDDING)


class DocumentQuerySet(models.QuerySet["Document"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(collection__in=Collection.objects.visible_to(user), deleting_at=None)

    def writable_by(self, user: User) -> Self:
        return self.filter(collection__in=Collection.objects.writable_by(user), deleting_at=None)


class Document(models.Model):
    """One document of a collection. `current` is the version that is searched; None until one is ready.

    While `deleting_at` is set nobody sees it, and its traces are being removed from all stores.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    collection = models.ForeignKey(
        Collection, on_delete=models.CASCADE, related_name="documents", verbose_name=_("collection")
    )
    name = models.CharField(_("file name"), max_length=255)
    title = models.CharField(_("title"), max_length=255, blank=True)
    uploader = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("uploaded by")
    )
    current = models.OneToOneField(
        "DocumentVersion", on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    deleting_at = models.DateTimeField(null=True, editable=False)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        constraints = [
            # The same name again is a new version of the same document.
            models.UniqueConstraint(
                fields=["collection", "name"],
                condition=Q(deleting_at=None),
                name="embeddings_document_name",
            ),
        ]
        indexes = [
            # The list of a collection, newest first.
            models.Index(fields=["collection", "-created_at", "id"], name="embeddings_document_list"),
        ]

    def __str__(self) -> str:
        # No name: the admin shows this to people who may not read the document.
        return str(self.pk)


class DocumentVersionQuerySet(models.QuerySet["DocumentVersion"]):
    def current(self) -> Self:
        """Those that are searched."""
        return self.filter(pk=F("document__current"), document__deleting_at=None)

    def running(self) -> Self:
        return self.filter(status__in=RUNNING)


class DocumentVersion(models.Model):
    """One content of a document: a file on the media volume, its pages, and its chunks.

    `status` is what people see, `step` what has been done. Every change of a running one names the `claim`
    under which it is made, so a worker that was taken for dead changes nothing any more.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField(_("bytes"))
    media_type = models.CharField(max_length=100)
    file = models.CharField(max_length=200, help_text=_("Below MEDIA_ROOT; a name of the server's own."))
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    step = models.CharField(max_length=10, choices=Step.choices, default=Step.STORED)
    progress = models.PositiveSmallIntegerField(_("percent"), default=0)
    error = models.CharField(max_length=50, blank=True, help_text=_("The code of the reason it failed for."))
    claim = models.UUIDField(null=True, editable=False)
    is_paged = models.BooleanField(default=False)
    """Whether its pages are those of the document, and not one for all of its text."""
    pages_total = models.PositiveIntegerField(_("pages"), default=0)
    characters = models.PositiveBigIntegerField(default=0)
    language = models.CharField(max_length=10, blank=True)
    title = models.CharField(_("title"), max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True)

    objects = DocumentVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version of a document")
        verbose_name_plural = _("versions of documents")
        constraints = [
            models.UniqueConstraint(fields=["document", "number"], name="embeddings_version_number"),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="embeddings_version_status"),
            models.CheckConstraint(condition=Q(step__in=Step.values), name="embeddings_version_step"),
            models.CheckConstraint(condition=Q(progress__lte=100), name="embeddings_version_progress"),
            models.CheckConstraint(
                condition=Q(status=Status.FAILED) ^ Q(error=""), name="embeddings_version_reason"
            ),
        ]
        indexes = [
            # Whether a content is there already.
            models.Index(fields=["sha256"], name="embeddings_version_content"),
        ]

    def __str__(self) -> str:
        return f"{self.document_id} · {self.number}"


class Page(models.Model):
    """The text of one page, as it was read (NFKC); documents without pages have a single one."""

    version = models.ForeignKey(DocumentVersion, on_delete=models.CASCADE, related_name="pages")
    number = models.PositiveIntegerField()
    text = models.TextField()
    headings = models.JSONField(default=list)
    """Where which heading stands: pairs of a place in `text` and the heading's words, in their order."""

    class Meta:
        verbose_name = _("page")
        verbose_name_plural = _("pages")
        constraints = [models.UniqueConstraint(fields=["version", "number"], name="embeddings_page_number")]

    def __str__(self) -> str:
        return f"{self.version_id} · {self.number}"


def access_document(user: User, pk: UUID | str, *, to_change: bool = False) -> Document:
    """The only way to a document by its id. Raises NotFound for a missing one and for one out of reach."""
    reachable = Document.objects.visible_to(user).select_related("collection", "current")
    if to_change:
        reachable = reachable.writable_by(user)
    document = reachable.filter(pk=pk).first()
    if document is None:
        raise NotFound
    return document
