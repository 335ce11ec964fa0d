"""What documents say, page by page and piece by piece: where it stands, and the words themselves hidden."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, PrivateAdmin
from embeddings.models import Chunk, Page


@admin.register(Page)
class PageAdmin(FoundByIndex, PrivateAdmin):
    private = ("text", "headings")
    owner = "version.document.uploader"
    list_display = ("id", "version_id", "number")
    search_fields = ("version",)
    search_help_text = _("The id of a version of a document")
    fields = readonly_fields = ("id", "version", "number")
    ordering = ("-pk",)
    sortable_by = ()


@admin.register(Chunk)
class ChunkAdmin(FoundByIndex, PrivateAdmin):
    private = ("heading", "text")
    deferred = ("vector",)
    owner = "version.document.uploader"
    list_display = ("id", "version_id", "index_id", "ordinal", "page", "start", "end")
    search_fields = ("version",)
    search_help_text = _("The id of a version of a document")
    fields = readonly_fields = ("id", "version", "index", "ordinal", "page", "start", "end")
    ordering = ("-pk",)
    sortable_by = ()
