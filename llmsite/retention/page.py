"""The page on which operators see what is kept for how long, and what would be removed now."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.pages.operators import for_operators
from llmsite.retention.pruning import preview


@require_GET
@for_operators
def overview(request: HttpRequest) -> HttpResponse:
    found = preview()
    context = {
        "section": "retention",
        "limited": [due for due in found if due.kind.days],
        "kept": [due.kind.label for due in found if not due.kind.days],
    }
    return render(request, "retention.html", context)
