"""The reader: a document's text as a model is given it, with the cited passage marked."""

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.authentication import user_of
from accounts.models import User
from embeddings.models import Document, DocumentVersion, access_document
from embeddings.pages.frame import frame_of, uuid_of
from embeddings.pages.listing import language_name, line_of
from embeddings.pages.reading import Place, excerpt, first_page_with_text, place_of_chunk


@require_GET
@login_required
def document(request: HttpRequest, pk: UUID) -> HttpResponse:
    """`?page=N` is a page, `?chunk=ID` or `?page=N&start=…&end=…[&version=…]` a passage of one.

    Without any it is the first page that has text: a cover that is a picture would look like a failure.
    """
    user = user_of(request)
    row = access_document(user, pk)
    line = line_of(row)
    context = {
        **frame_of(user, row.collection),
        "document": row,
        "title": row.title or row.name,
        "line": line,
        "version": row.current or line.version,
    }
    if row.current is not None:
        context |= _shown(request, user, row, row.current)
    return render(request, "embeddings/reader.html", context)


def _shown(request: HttpRequest, user: User, row: Document, version: DocumentVersion) -> dict[str, Any]:
    cited = _cited(request, user, row)
    is_gone = _asks_for_passage(request) and cited is None
    wanted = cited.page if cited else _number(request, "page") or first_page_with_text(version)
    page = max(1, min(wanted, version.pages_total or 1))
    shown = excerpt(version, page, marked=cited, begin=_number(request, "from"))
    return {
        "version": version,
        "language": language_name(version.language),
        "excerpt": shown,
        "previous_page": page - 1,
        "next_page": page + 1,
        "passage_is_gone": is_gone or (cited is not None and not shown.marked.strip()),
    }


def _asks_for_passage(request: HttpRequest) -> bool:
    return "chunk" in request.GET or "start" in request.GET


def _cited(request: HttpRequest, user: User, row: Document) -> Place | None:
    """Where the passage of the address stands; None without one, and where it stands there no more."""
    if (chunk := _number(request, "chunk")) is not None:
        return place_of_chunk(user, row, chunk)
    if "version" in request.GET and uuid_of(request.GET["version"]) != row.current_id:
        return None
    start, end = _number(request, "start"), _number(request, "end")
    if start is None or end is None or start >= end:
        return None
    return Place(_number(request, "page") or 1, start, end)


def _number(request: HttpRequest, name: str) -> int | None:
    given = request.GET.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None
