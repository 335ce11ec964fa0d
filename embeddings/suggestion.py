"""What would make a collection easier to search."""

from django.conf import settings
from django.db.models import Count, Q

from embeddings.indexes.fusion import is_multilingual
from embeddings.models import Collection, DocumentVersion
from embeddings.weights import MULTILINGUAL

SHARE = 0.2
"""Of the documents, that are in another language than English."""


def suggestion(collection: Collection) -> str | None:
    """The encoder that EMBEDDING_MODEL had better name, where ours hardly reads the documents' languages."""
    if is_multilingual(settings.EMBEDDING_MODEL):
        return None
    shown = DocumentVersion.objects.current().filter(document__collection=collection)
    counts = shown.aggregate(every=Count("pk"), foreign=Count("pk", filter=~Q(language__in=("en", ""))))
    return MULTILINGUAL if counts["every"] and counts["foreign"] >= SHARE * counts["every"] else None
