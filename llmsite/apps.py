from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "llmsite"

    def ready(self) -> None:
        from accounts import roles
        from llmsite.core import tracing, worker

        roles.contribute(roles.OPERATOR, "django_tasks_database.view_dbtaskresult")
        worker.note_requests()
        tracing.set_up()
