"""The page of documents: those of one collection, and a form that takes more."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.views.decorators.http import require_GET

from accounts.authentication import user_of
from accounts.models import User
from embeddings.models import Collection, access_collection
from embeddings.pages.forms import CollectionForm
from embeddings.pages.frame import frame_of, uuid_of
from embeddings.pages.listing import lines_of
from embeddings.suggestion import suggestion
from embeddings.uploads import MEDIA_TYPES
from llmsite.core.errors import NotFound


@require_GET
@login_required
def documents(request: HttpRequest) -> HttpResponse:
    """`?collection=ID` is the collection that is shown; without it, the first one there is."""
    collection = None
    if "collection" in request.GET:
        pk = uuid_of(request.GET["collection"])
        if pk is None:
            raise NotFound
        collection = access_collection(user_of(request), pk)
    return documents_page(request, collection)


def documents_page(
    request: HttpRequest, collection: Collection | None = None, *, status: int = 200, **forms: Any
) -> HttpResponse:
    """The page; `forms` are `new_form` or `change_form`, sent and not taken."""
    user = user_of(request)
    frame = frame_of(user, collection, new_form=forms.pop("new_form", None))
    if collection is None:
        collection = next(iter([*frame["own_collections"], *frame["shared_collections"]]), None)
    context = {
        **frame,
        "collection": collection,
        "max_upload_mb": settings.MAX_UPLOAD_MB,
        "accepted": ",".join(MEDIA_TYPES),
        "may_change": collection is None or collection.owner_id == user.pk,
        "suggestion": suggestion(collection) if collection else None,
        **_list(request, user, collection),
    }
    if collection is not None and context["may_change"]:
        context["change_form"] = CollectionForm(user=user, collection=collection)
    return render(request, "embeddings/documents.html", {**context, **forms}, status=status)


def address_of(collection: Collection | None, **query: object) -> str:
    """Where the documents of `collection` are shown."""
    chosen = {"collection": collection.pk} if collection else {}
    encoded = urlencode({**chosen, **query})
    return f"{resolve_url('documents')}?{encoded}" if encoded else resolve_url("documents")


def _list(request: HttpRequest, user: User, collection: Collection | None) -> dict[str, Any]:
    if collection is None:
        return {"lines": [], "any_running": False, "address": address_of(None)}
    before = uuid_of(request.GET.get("before"))
    lines, last = lines_of(collection, user, before)
    return {
        "lines": lines,
        "any_running": any(line.is_running for line in lines),
        "address": address_of(collection, **({"before": before} if before else {})),
        "next_documents": address_of(collection, before=last) if last else "",
    }
