"""Documents and their versions: whose they are, how far they have come, and having them read again."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, PrivateAdmin, RowAction
from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from embeddings.intake import read_again
from embeddings.models import Document, DocumentVersion
from embeddings.models.documents import RUNNING


def _read_again(document: Document, actor: User) -> bool:
    newest = read_again(document) if document.deleting_at is None else None
    if newest is None or newest.status not in RUNNING:
        return False
    record(AuditKind.DOCUMENT_REREAD, subject=document.uploader, actor=actor, document=str(document.pk))
    return True


@admin.register(Document)
class DocumentAdmin(FoundByIndex, PrivateAdmin):
    private = ("name", "title")
    deferred = ("collection__name", "current__title")
    owner = "uploader"
    list_display = ("id", "collection_id", "uploader", "searched_since", "created_at", "deleting_at")
    list_select_related = ("uploader", "current")
    list_filter = (("current", admin.EmptyFieldListFilter), ("deleting_at", admin.EmptyFieldListFilter))
    search_fields = ("pk", "collection", "uploader__username")
    search_help_text = _("A username, or the id of a document or of a collection")
    fields = readonly_fields = ("id", "collection", "uploader", "current", "created_at", "deleting_at")
    ordering = ("-pk",)
    sortable_by = ()
    actions = (
        RowAction(
            "read_again",
            _read_again,
            label=_("Read documents again"),
            question=_(
                "The newest version of each document is read from its beginning where that has failed; the "
                "others stay as they are."
            ),
            permission="accounts.operate",
        ),
    )

    @admin.display(description=_("searched since"))
    def searched_since(self, document: Document) -> object:
        return document.current and document.current.ready_at


@admin.register(DocumentVersion)
class DocumentVersionAdmin(FoundByIndex, PrivateAdmin):
    private = ("title",)
    deferred = ("document__name", "document__title")
    owner = "document.uploader"
    list_display = (
        "id",
        "document",
        "number",
        "status",
        "progress",
        "error",
        "size",
        "language",
        "created_at",
    )
    list_select_related = ("document",)
    list_filter = ("status", ("created_at", admin.DateFieldListFilter))
    search_fields = ("pk", "document", "sha256", "document__uploader__username")
    search_help_text = _("A username, the id of a version or of its document, or the SHA-256 of a file")
    fields = readonly_fields = (
        "id",
        "document",
        "number",
        "status",
        "step",
        "progress",
        "error",
        "size",
        "media_type",
        "pages_total",
        "characters",
        "language",
        "sha256",
        "created_at",
        "ready_at",
    )
    # Ids begin with the time, so this is the order of time, by an index.
    ordering = ("-pk",)
    sortable_by = ()
