"""Collections and what is searched of them. Their names are words of their owners."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin import FoundByIndex, HistoryAdmin, PrivateAdmin, RowAction
from accounts.models import User
from embeddings.models import Collection, SearchIndex
from embeddings.rebuild import ask_to_index_again


def _index_again(collection: Collection, actor: User) -> bool:
    return ask_to_index_again(collection, actor=actor)


@admin.register(Collection)
class CollectionAdmin(FoundByIndex, PrivateAdmin):
    private = ("name",)
    owner = "owner"
    list_display = ("id", "owner", "visibility", "team", "version", "created_at", "deleting_at")
    list_select_related = ("owner", "team")
    list_filter = ("visibility", ("deleting_at", admin.EmptyFieldListFilter))
    search_fields = ("pk", "owner__username")
    search_help_text = _("A username, or an id")
    fields = readonly_fields = (
        "id",
        "owner",
        "visibility",
        "team",
        "is_default",
        "version",
        "created_at",
        "deleting_at",
    )
    ordering = ("-pk",)
    sortable_by = ()
    actions = (
        RowAction(
            "index_again",
            _index_again,
            label=_("Index collections again"),
            question=_(
                "A worker compares the indexes of these collections with their documents, and cuts and "
                "embeds anew what came from another encoder. Searches go on meanwhile."
            ),
            permission="accounts.operate",
        ),
    )


@admin.register(SearchIndex)
class SearchIndexAdmin(FoundByIndex, HistoryAdmin):
    list_display = ("id", "collection_id", "embedder", "dimensions", "chunker", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("collection",)
    search_help_text = _("The id of a collection")
    fields = readonly_fields = (
        "id",
        "collection",
        "embedder",
        "dimensions",
        "chunker",
        "status",
        "created_at",
    )
    ordering = ("-pk",)
    sortable_by = ()
