"""From an answer to the words its model has learned from, and from a person to what was made of theirs."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.pages.operators import for_operators
from training import trace

LONGEST = 200
"""Characters of what is looked for."""


@require_GET
@for_operators
def lineage(request: HttpRequest) -> HttpResponse:
    """`?of=` is the id of anything in the chain, the name of an adapter, or a username."""
    wanted = request.GET.get("of", "").strip()[:LONGEST]
    context = {
        "section": "lineage",
        "of": wanted,
        "chain": trace.find(wanted) if wanted else None,
    }
    return render(request, "training/lineage.html", context)
