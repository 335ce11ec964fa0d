"""The headers that Django's middleware and django-csp's would write, on every answer."""

import pytest
from csp.middleware import CSPMiddleware
from django.http import HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.test import AsyncRequestFactory

from llmsite.core.safety_headers import SafetyHeadersMiddleware

OURS = {"Cache-Control": "no-store", "Permissions-Policy": "camera=(), geolocation=(), microphone=()"}


async def view(_request):
    return HttpResponse("hello")


@pytest.fixture
def tls(settings):
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True


def sorted_policy(headers):
    return {**headers, "Content-Security-Policy": sorted(headers["Content-Security-Policy"].split("; "))}


@pytest.mark.usefixtures("tls")
@pytest.mark.parametrize("secure", [True, False])
async def test_they_are_those_of_the_three_middlewares(secure, settings):
    settings.SECURE_SSL_REDIRECT = False
    request = AsyncRequestFactory().get("/", secure=secure)
    expected = HttpResponse("hello")
    for middleware in (SecurityMiddleware, XFrameOptionsMiddleware, CSPMiddleware):
        expected = middleware(lambda _request: None).process_response(request, expected)

    told = await SafetyHeadersMiddleware(view)(request)

    assert sorted_policy(told.headers) == sorted_policy({**expected.headers, **OURS})
    assert ("Strict-Transport-Security" in told) is secure


@pytest.mark.usefixtures("tls")
async def test_a_plain_request_is_led_to_tls():
    led = await SafetyHeadersMiddleware(view)(AsyncRequestFactory().get("/chat/"))
    assert (led.status_code, led["Location"]) == (301, "https://testserver/chat/")
    assert led["X-Frame-Options"] == "DENY"


async def test_a_header_of_the_views_own_stays_and_is_nobody_elses():
    async def kept(_request):
        return HttpResponse("hello", headers={"cache-control": "max-age=60"})

    middleware = SafetyHeadersMiddleware(kept)
    answer = await middleware(AsyncRequestFactory().get("/"))
    answer["X-Frame-Options"] = "SAMEORIGIN"
    again = await middleware(AsyncRequestFactory().get("/"))
    assert (again["Cache-Control"], again["X-Frame-Options"]) == ("max-age=60", "DENY")
