"""Puts our own site in the place of Django's admin. It names it only, since no model can be imported yet."""

from django.contrib.admin.apps import AdminConfig


class WorkplaceConfig(AdminConfig):
    default_site = "llmsite.admin_site.Workplace"
