"""The queue: what waits for a curator, and what has been decided."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.authentication import user_of
from feedback.models import Tag
from feedback.pages.frame import address, for_curators, frame_of, uuid_of
from feedback.queue import Filters, page_of
from inference.models import ChatModelConfig


@require_GET
@for_curators
def queue(request: HttpRequest) -> HttpResponse:
    """`?status=&rating=&tag=&model=&corrected=` filter; `?before=ID` and `?after=ID` say the place."""
    filters = Filters.read(request.GET)
    before, after = (uuid_of(request.GET.get(name)) for name in ("before", "after"))
    page = page_of(user_of(request), filters, before=before, after=after)
    context = {
        **frame_of(filters),
        "page": page,
        "entries": [(line, address("feedback-entry", filters, line.pk)) for line in page.lines],
        "newer": address("feedback-queue", filters, after=page.newer) if page.newer else "",
        "older": address("feedback-queue", filters, before=page.older) if page.older else "",
        "tags": Tag.choices,
        "models": ChatModelConfig.objects.order_by("alias").values_list("alias", flat=True),
    }
    return render(request, "feedback/queue.html", context)
