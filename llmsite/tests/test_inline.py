"""Django's middleware without threads: the same protection, also where its own system check cannot see it."""

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings as site
from django.http import HttpResponse
from django.test import AsyncRequestFactory
from django.utils.module_loading import import_string

from llmsite.core import inline

REPLACED = {
    "django.middleware.security.SecurityMiddleware": inline.Security,
    "django.middleware.clickjacking.XFrameOptionsMiddleware": inline.FrameOptions,
    "django.middleware.csrf.CsrfViewMiddleware": inline.Csrf,
    "django.middleware.locale.LocaleMiddleware": inline.Locale,
    "django.middleware.common.CommonMiddleware": inline.Common,
    "django.contrib.messages.middleware.MessageMiddleware": inline.Messages,
    "csp.middleware.CSPMiddleware": inline.ContentSecurityPolicy,
}


async def view(_request):
    return HttpResponse("hello")


@pytest.mark.parametrize("name", REPLACED)
def test_each_is_in_place_and_is_the_one_that_it_replaces(name):
    path = f"{REPLACED[name].__module__}.{REPLACED[name].__name__}"
    assert path in site.MIDDLEWARE
    assert issubclass(REPLACED[name], import_string(name))


async def test_a_site_behind_tls_says_so_and_leads_there(settings):
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    security = inline.Security(view)

    safe = await security(AsyncRequestFactory().get("/", secure=True))
    assert safe["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert safe["X-Content-Type-Options"] == "nosniff"
    plain = await security(AsyncRequestFactory().get("/chat/"))
    assert (plain.status_code, plain["Location"]) == (301, "https://testserver/chat/")


async def test_nobody_frames_a_page():
    assert (await inline.FrameOptions(view)(AsyncRequestFactory().get("/")))["X-Frame-Options"] == "DENY"


async def test_their_hooks_take_no_thread(monkeypatch):
    hops = []
    monkeypatch.setattr(SyncToAsync, "__call__", lambda *args, **kwargs: hops.append(args))
    for kind in (
        inline.Security,
        inline.FrameOptions,
        inline.ContentSecurityPolicy,
        inline.Common,
        inline.Locale,
    ):
        request = AsyncRequestFactory().get("/api/models")
        request.resolver_match = None
        assert (await kind(view)(request)).status_code == 200
    assert hops == []
