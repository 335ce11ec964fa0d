"""The admin's frame: what its first page shows, and which tables stand together."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

GROUPS: tuple[tuple[str, str | Promise, tuple[str, ...]], ...] = (
    (
        "people",
        _("People and access"),
        ("accounts.User", "auth.Group", "accounts.Team", "accounts.Session", "accounts.ApiKey"),
    ),
    (
        "models",
        _("Models"),
        (
            "inference.ChatModelConfig",
            "training.Promotion",
            "inference.Adapter",
            "inference.EngineProcess",
            "inference.AdapterLoad",
        ),
    ),
    (
        "answers",
        _("Questions and answers"),
        (
            "inference.Generation",
            "inference.Conversation",
            "inference.Message",
            "inference.AnswerSource",
            "inference.VerifiedAnswer",
        ),
    ),
    (
        "documents",
        _("Documents"),
        (
            "embeddings.Collection",
            "embeddings.Document",
            "embeddings.DocumentVersion",
            "embeddings.Page",
            "embeddings.Chunk",
            "embeddings.SearchIndex",
        ),
    ),
    ("feedback", _("Feedback"), ("feedback.Feedback", "feedback.Example")),
    (
        "training",
        _("Training"),
        (
            "training.Dataset",
            "training.DatasetVersion",
            "training.DatasetRow",
            "training.TrainingRun",
            "training.Metric",
            "training.Evaluation",
            "training.EvaluationAnswer",
        ),
    ),
    (
        "records",
        _("Costs and records"),
        (
            "django_tasks_database.DBTaskResult",
            "accounts.AuditEvent",
            "accounts.LedgerEntry",
            "accounts.Spending",
            "accounts.Reservation",
        ),
    ),
)
"""Which tables stand together on the first page, and in the bar at the side."""

PLACES: tuple[tuple[str, str | Promise, str], ...] = (
    ("dashboard", _("Dashboard"), "accounts.operate"),
    ("feedback-queue", _("Review of feedback"), "accounts.curate"),
    ("training", _("Training"), "accounts.operate"),
    ("documents", _("Documents"), ""),
    ("retention", _("What is kept"), "accounts.operate"),
)
"""The pages of the site beside the admin: name of the address, title, permission."""


class Workplace(admin.AdminSite):
    site_header = site_title = "llmsite"
    index_title = _("Workplace")

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """The tables that this person may see, by what they are about."""
        if app_label is not None:
            return super().get_app_list(request, app_label)
        tables = {
            f"{label}.{table['object_name']}": table
            for label, app in self._build_app_dict(request).items()
            for table in app["models"]
        }
        groups = []
        for name, title, labels in GROUPS:
            if found := [tables[label] for label in labels if label in tables]:
                groups.append(_group(name, title, found))
        return groups

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        places = [
            {"title": title, "url": reverse(name)}
            for name, title, permission in PLACES
            if not permission or request.user.has_perm(permission)
        ]
        return super().index(request, {**(extra_context or {}), "places": places, **_charts(request)})


def _charts(request: HttpRequest) -> dict[str, Any]:
    """The four main charts, for those who may see the dashboard."""
    if not request.user.has_perm("accounts.operate"):
        return {}
    # Its tables are loaded after this site is made.
    from dashboard.charts import main_charts

    return {"main_charts": main_charts()}


def _group(name: str, title: str | Promise, tables: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": title,
        "app_label": name,
        "app_url": "",
        "has_module_perms": True,
        "models": tables,
    }
