"""`GET /metrics` for Prometheus, and `GET /api/metrics` for everybody else who runs the site."""

import asyncio
from ipaddress import ip_address
from secrets import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import HasScope
from accounts.credentials import presented_token
from accounts.models import Scope
from llmsite.core.errors import NotAllowed, NotSignedIn
from llmsite.core.rest import json_door
from llmsite.core.schema import documented
from llmsite.core.shared_values import all_values, registry_of
from llmsite.metrics.gauges import gauges
from llmsite.metrics.summary import Told, told

_FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
    "HTTP_VIA",
)


@json_door("GET", "HEAD")
async def prometheus(request: HttpRequest) -> HttpResponse:
    """All numbers of this machine's processes, for who has METRICS_TOKEN."""
    require_scraper(request)
    text = await asyncio.to_thread(_text, await gauges.read())
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _text(read: list[Metric]) -> bytes:
    return generate_latest(registry_of([*all_values(), *read]))


def require_scraper(request: HttpRequest) -> None:
    """Raises NotSignedIn without METRICS_TOKEN where there is one; else NotAllowed but for this machine."""
    if settings.METRICS_TOKEN:
        sent = presented_token(request.META.get("HTTP_AUTHORIZATION"), {}) or ""
        if not compare_digest(sent.encode(), settings.METRICS_TOKEN.encode()):
            raise NotSignedIn
    elif not _is_of_this_machine(request):
        raise NotAllowed


def _is_of_this_machine(request: HttpRequest) -> bool:
    """Whether the caller is on loopback, and not a proxy there that nobody has named in TRUSTED_PROXIES.

    Of a named one, uvicorn has put its client's address in the place of its own.
    """
    if not settings.TRUSTED_PROXIES and any(name in request.META for name in _FORWARDED):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


class MetricsView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.METRICS

    @documented("The site's numbers in short", tag="Operation", gives=Told)
    def get(self, request: Request) -> Response:
        """For operators. Counts are those since the site began; latencies are seconds.

        All processes of the machine count together. Requests are questions to models, and errors are answers
        that failed, broke off or were interrupted.
        """
        return Response(told())
