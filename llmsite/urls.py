"""All addresses of the site."""

from django.contrib import admin
from django.urls import include, path
from django.views.decorators.cache import cache_control
from django.views.generic import RedirectView
from django.views.i18n import JavaScriptCatalog

import accounts.urls
import dashboard.urls
import embeddings.urls
import feedback.urls
import inference.urls
import training.urls
from accounts.pages.sign_in import admin_login, logout
from llmsite import api_docs, health
from llmsite.core import error_pages
from llmsite.metrics import doors as metrics
from llmsite.retention import page as retention

_HOUR = 3600
# The texts of one language, which the address names; without this each page would ask for them again.
_scripts_texts = cache_control(private=True, max_age=_HOUR)(JavaScriptCatalog.as_view(packages=["llmsite"]))

urlpatterns = [
    # Addresses are tried in this order, so those that are asked most come first.
    path("api/", include(inference.urls.api_root)),
    path("v1/", include(inference.urls.v1)),
    path("api/auth/", include(accounts.urls.api_auth)),
    path("api/", include(embeddings.urls.api_root)),
    path("api/", include(feedback.urls.api_root)),
    path("api/", include(training.urls.api_root)),
    path("api/metrics", metrics.MetricsView.as_view(), name="metrics"),
    path("api/schema", api_docs.schema, name="schema"),
    path("docs/", api_docs.docs, name="docs"),
    *accounts.urls.pages,
    *inference.urls.pages,
    *embeddings.urls.pages,
    *feedback.urls.pages,
    *training.urls.pages,
    *dashboard.urls.pages,
    path("retention/", retention.overview, name="retention"),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("health/stream", health.stream),
    path("metrics", metrics.prometheus),
    # One sign-in for all: the admin has no pages of its own for it.
    path("admin/login/", admin_login),
    path("admin/logout/", logout),
    path("admin/password_change/", RedirectView.as_view(pattern_name="password-change")),
    # Leads to any row's page on the site, and so would tell staff without a right which rows there are.
    path("admin/r/<path:content_type_id>/<path:object_id>/", error_pages.missing),
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("jsi18n/", _scripts_texts, name="javascript-catalog"),
]

handler400 = "llmsite.core.error_pages.bad_request"
handler403 = "llmsite.core.error_pages.permission_denied"
handler404 = "llmsite.core.error_pages.page_not_found"
handler500 = "llmsite.core.error_pages.server_error"
