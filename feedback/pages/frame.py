"""What all pages of the review have: who may see them, and the place in the queue that an address says."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.translation import pgettext_lazy

from accounts.authentication import user_of
from feedback.models import ReviewStatus
from feedback.queue import Filters
from llmsite.core.errors import NotAllowed

View = Callable[..., HttpResponse]

_STATES = [
    (ReviewStatus.OPEN, pgettext_lazy("feedback", "Open")),
    (ReviewStatus.ACCEPTED, pgettext_lazy("feedback", "Accepted")),
    (ReviewStatus.REJECTED, pgettext_lazy("feedback", "Rejected")),
]


def frame_of(filters: Filters) -> dict[str, Any]:
    """The context of what stands around every page."""
    return {"filters": filters, "states": _STATES}


def for_curators(view: View) -> View:
    """Sends others to the sign-in, or raises NotAllowed before anything is looked up."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not user_of(request).has_perm("accounts.curate"):
            raise NotAllowed
        return view(request, *args, **kwargs)

    return login_required(checked)


def address(name: str, filters: Filters, *args: UUID, **query: UUID) -> str:
    """Where a page of the review is, with the filters it was come to with."""
    encoded = urlencode({**filters.as_query, **query})
    path = resolve_url(name, *args)
    return f"{path}?{encoded}" if encoded else path


def uuid_of(raw: str | None) -> UUID | None:
    try:
        return UUID(raw) if raw else None
    except ValueError:
        return None
