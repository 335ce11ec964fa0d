"""Django's middleware without threads: the same protection, also where its own system check cannot see it."""

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings as site
from django.core.exceptions import DisallowedHost
from django.http import HttpResponse
from django.test import AsyncRequestFactory
from django.utils.module_loading import import_string

from llmsite.core import inline
from llmsite.core.safety_headers import SafetyHeadersMiddleware

REPLACED = {
    "django.middleware.csrf.CsrfViewMiddleware": inline.Csrf,
    "django.middleware.locale.LocaleMiddleware": inline.Locale,
    "django.middleware.common.CommonMiddleware": inline.Common,
    "django.contrib.messages.middleware.MessageMiddleware": inline.Messages,
}


async def view(_request):
    return HttpResponse("hello")


@pytest.mark.parametrize("name", REPLACED)
def test_each_is_the_one_that_it_replaces(name):
    assert issubclass(REPLACED[name], import_string(name))


@pytest.mark.parametrize(
    "path",
    [
        "llmsite.core.safety_headers.SafetyHeadersMiddleware",
        "llmsite.core.inline.Locale",
        "llmsite.core.inline.Pages",
    ],
)
def test_they_are_in_place(path):
    assert path in site.MIDDLEWARE


async def test_a_door_of_programs_checks_the_host_and_tells_the_length(settings):
    door, request = inline.Pages(view), AsyncRequestFactory().get("/api/models")
    assert (await door(request))["Content-Length"] == "5"
    settings.ALLOWED_HOSTS = ["example.org"]
    with pytest.raises(DisallowedHost):
        await door(request)


async def test_their_hooks_take_no_thread(monkeypatch):
    hops = []
    monkeypatch.setattr(SyncToAsync, "__call__", lambda *args, **kwargs: hops.append(args))
    for kind in (SafetyHeadersMiddleware, inline.Pages, inline.Common, inline.Locale):
        request = AsyncRequestFactory().get("/api/models")
        request.resolver_match = None
        assert (await kind(view)(request)).status_code == 200
    assert hops == []
